// A file to the server, and its segments as they are known.

const LARGEST_PICTURE = 60 * 2 ** 20; // bytes: a larger file is not decoded for its picture

export async function transcribe(file, { model, language, task, token, signal }, onSegment) {
  const form = new FormData();
  const fields = { model, response_format: "verbose_json" };
  if (task === "transcribe") {
    Object.assign(fields, { stream: "true", ...(language && { language }) });
    for (const each of ["word", "segment"]) form.append("timestamp_granularities[]", each);
  }
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", file, "audio");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const path = task === "translate" ? "v1/audio/translations" : "v1/audio/transcriptions";
  const answer = await fetch(path, { method: "POST", body: form, headers, signal });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  if (task === "translate") {
    const found = await answer.json();
    found.segments.forEach((segment) => onSegment({ ...segment, words: null }));
    return found;
  }
  for await (const event of events(answer.body)) {
    if (event.error) throw new Error(event.error.message);
    if (event.type === "transcript.text.done") return event;
    onSegment({ ...event.segment, words: event.words });
  }
  throw new Error("The server's answer broke off.");
}

// Server-sent events of a body (WHATWG HTML, section 9.2), as JSON.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) yield JSON.parse(part.replace(/^data: /, ""));
  }
}

// The samples of a file at 16 kHz for its picture, or null where the browser cannot decode it.
export async function samplesOf(file) {
  if (file.size > LARGEST_PICTURE) return null;
  try {
    const decoded = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(await file.arrayBuffer());
    return decoded.getChannelData(0);
  } catch {
    return null;
  }
}
