// A live session: from the microphone to the server's events.

export class Live {
  // `heard` is given blocks of samples, `told` events, `over` is called once, with an error or nothing.
  constructor({ query, token, heard, told, over }) {
    Object.assign(this, { query, token, heard, told, over, numSamples: 0, waiting: [], ended: false });
  }

  async start() {
    try {
      this.context = new AudioContext();
      await this.context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
      await this.listen();
      await this.connect();
    } catch (error) {
      this.release();
      throw error;
    }
  }

  // From now on nothing is lost: what is heard before the server is there waits.
  async listen() {
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
    } catch (error) {
      throw new Error(`The microphone cannot be heard (${error.message}). Allow this page to use it, or choose a file.`);
    }
    const recorder = new AudioWorkletNode(this.context, "recorder", { numberOfOutputs: 0 });
    recorder.port.onmessage = (message) => this.push(message.data);
    this.context.createMediaStreamSource(this.stream).connect(recorder);
    await this.context.resume();
  }

  get rate() {
    return this.context.sampleRate;
  }

  connect() {
    const address = new URL("v1/audio/stream", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = new URLSearchParams({ ...this.query, sample_rate: this.rate });
    const bytes = new TextEncoder().encode(this.token);
    const hidden = btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
    this.socket = new WebSocket(address, this.token ? ["s2s", `bearer.${hidden}`] : ["s2s"]);
    this.socket.onmessage = (message) => this.take(JSON.parse(message.data));
    this.socket.onclose = () => this.close(this.complete ? null : new Error("The connection was lost."));
    return new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  push(samples) {
    if (this.ended) return;
    this.numSamples += samples.length;
    this.lastCame = performance.now() / 1000;
    this.waiting.push(samples);
    this.send();
    this.heard(samples, this.rate);
  }

  sendEnd() {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type: "end" }));
  }

  send() {
    if (this.socket?.readyState === WebSocket.OPEN) this.waiting.splice(0).forEach((samples) => this.socket.send(samples));
  }

  take(event) {
    if (event.type === "ready") {
      this.send();
      if (this.ended) this.sendEnd(); // it was stopped before the server was there
      this.resolve();
      this.resolve = null;
    } else if (event.type === "error") {
      this.close(new Error(event.error.message));
    } else if (event.type === "end") {
      this.complete = this.ended = true;
      this.close(null);
    } else {
      // When the audio was there that the text needed: so many samples before the last one.
      const came = this.lastCame - (this.numSamples / this.rate - event.heard);
      this.told(event, performance.now() / 1000 - came);
    }
  }

  stop() {
    if (this.ended) return;
    this.ended = true;
    this.release();
    this.send();
    this.sendEnd();
  }

  close(error) {
    if (this.resolve) {
      const refused = "The server takes no session now: it is full or stopping, the token is wrong, or it cannot do what is chosen.";
      this.reject(new Error(error && error.message !== "The connection was lost." ? error.message : refused));
      this.resolve = null;
    } else if (this.over) {
      this.over(error);
    }
    this.over = null;
    this.release();
  }

  release() {
    this.stream?.getTracks().forEach((track) => track.stop());
    if (this.context?.state !== "closed") this.context?.close();
    this.stream = null;
  }
}
