// A spectrogram that grows, and the words under it. Only what is in sight is drawn.

const RATE = 16000;
const SIZE = 512;
const HOP = 320;
const BANDS = 64;
export const PIXELS = 110; // of a second

export class Spectrogram {
  constructor(timeline, length, canvas, words, seek) {
    Object.assign(this, { timeline, length, canvas, words, seek, follows: true });
    const band = (k) => 700 * (10 ** (((k + 0.5) / BANDS) * Math.log10(1 + RATE / 2 / 700)) - 1);
    this.bins = Array.from({ length: BANDS }, (_, k) => (band(k) * SIZE) / RATE);
    this.window = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
    this.clear();
    timeline.addEventListener("scroll", () => {
      this.follows = timeline.scrollLeft + timeline.clientWidth > timeline.scrollWidth - 40;
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(timeline);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  clear() {
    this.columns = new Uint8Array(BANDS * 512);
    this.count = 0;
    this.rest = new Float32Array(0);
    this.position = 0;
    this.placed = [];
    this.timeline.scrollLeft = 0;
    this.follows = true;
    this.duration = 0;
  }

  get seconds() {
    return Math.max(this.duration, (this.count * HOP) / RATE);
  }

  // Samples in [-1, 1] at any rate: the nearest ones at 16 kHz are enough for a picture.
  push(samples, rate) {
    const taken = [];
    for (; this.position < samples.length; this.position += rate / RATE) taken.push(samples[Math.floor(this.position)]);
    this.position -= samples.length;
    const all = new Float32Array(this.rest.length + taken.length);
    all.set(this.rest);
    all.set(taken, this.rest.length);
    let start = 0;
    for (; start + SIZE <= all.length; start += HOP) this.column(all.subarray(start, start + SIZE));
    this.rest = all.slice(start);
  }

  column(samples) {
    const real = samples.map((sample, i) => sample * this.window[i]);
    const imaginary = new Float32Array(SIZE);
    fft(real, imaginary);
    if ((this.count + 1) * BANDS > this.columns.length) {
      const larger = new Uint8Array(2 * this.columns.length);
      larger.set(this.columns);
      this.columns = larger;
    }
    for (let k = 0; k < BANDS; k++) {
      const low = Math.floor(k ? (this.bins[k - 1] + this.bins[k]) / 2 : 0);
      const high = Math.max(low + 1, Math.ceil(k + 1 < BANDS ? (this.bins[k] + this.bins[k + 1]) / 2 : SIZE / 2));
      let most = 0;
      for (let i = low; i < high; i++) most = Math.max(most, real[i] ** 2 + imaginary[i] ** 2);
      const decibels = 10 * Math.log10(most + 1e-9);
      this.columns[this.count * BANDS + k] = Math.max(0, Math.min(255, ((decibels + 45) / 75) * 255));
    }
    this.count++;
  }

  // Words with start and end; `open` ones may change.
  place(words) {
    const ends = [-1, -1, -1];
    this.placed = words.map((word) => {
      const left = word.start * PIXELS;
      const row = Math.max(0, ends.findIndex((end) => end <= left));
      ends[row] = left + 12 + 7.8 * word.word.length;
      return { ...word, row };
    });
  }

  draw() {
    if (this.timeline.closest("[hidden]")) return;
    const width = this.timeline.clientWidth;
    this.length.style.inlineSize = `${Math.ceil(this.seconds * PIXELS)}px`;
    if (this.follows) this.timeline.scrollLeft = this.timeline.scrollWidth;
    const from = this.timeline.scrollLeft;
    const context = this.canvas.getContext("2d");
    if (this.canvas.width !== width) this.canvas.width = width;
    this.canvas.height = BANDS;
    this.canvas.style.inlineSize = `${width}px`;
    const colours = palette();
    const image = context.createImageData(width, BANDS);
    const scale = RATE / HOP / PIXELS;
    for (let x = 0; x < width; x++) {
      const column = Math.floor((from + x) * scale);
      for (let k = 0; k < BANDS; k++) {
        const value = column < this.count ? this.columns[column * BANDS + k] : 0;
        image.data.set(colours[value], 4 * ((BANDS - 1 - k) * width + x));
      }
    }
    context.putImageData(image, 0, 0);
    this.show(from / PIXELS - 2, (from + width) / PIXELS);
  }

  show(from, to) {
    const focus = this.words.contains(document.activeElement) ? document.activeElement.dataset.start : null;
    this.words.replaceChildren(...this.placed.filter((word) => word.end >= from && word.start <= to).map((word) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = word.word;
      button.title = `${word.start.toFixed(2)} to ${word.end.toFixed(2)} s`;
      button.className = `row-${word.row}${word.open ? " open" : ""}`;
      button.style.insetInlineStart = `${word.start * PIXELS}px`;
      button.dataset.start = word.start;
      button.dataset.end = word.end;
      button.tabIndex = this.seek.enabled ? 0 : -1;
      button.addEventListener("click", () => this.seek(word.start));
      return button;
    }));
    if (focus !== null) this.words.querySelector(`[data-start="${focus}"]`)?.focus();
  }
}

let shown = "";
let table = [];

// 256 colours between the three of the style sheet.
function palette() {
  const style = getComputedStyle(document.documentElement);
  const names = ["--low", "--middle", "--high"].map((name) => style.getPropertyValue(name).trim());
  if (names.join() !== shown) {
    shown = names.join();
    const stops = names.map((text) => [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16)));
    table = Array.from({ length: 256 }, (_, value) => {
      const place = value / 127.5;
      const i = Math.min(1, Math.floor(place));
      return [...stops[i].map((low, c) => Math.round(low + (stops[i + 1][c] - low) * (place - i))), 255];
    });
  }
  return table;
}

// In place, radix 2 (Cooley and Tukey 1965).
function fft(real, imaginary) {
  const n = real.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [real[i], real[j]] = [real[j], real[i]];
  }
  for (let size = 2; size <= n; size *= 2) {
    const angle = (-2 * Math.PI) / size;
    for (let start = 0; start < n; start += size) {
      for (let k = 0; k < size / 2; k++) {
        const cosine = Math.cos(angle * k);
        const sine = Math.sin(angle * k);
        const low = start + k;
        const high = low + size / 2;
        const r = real[high] * cosine - imaginary[high] * sine;
        const i = real[high] * sine + imaginary[high] * cosine;
        real[high] = real[low] - r;
        imaginary[high] = imaginary[low] - i;
        real[low] += r;
        imaginary[low] += i;
      }
    }
  }
}
