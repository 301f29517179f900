// The page: what is chosen, what is heard, what is shown.

import { clock, KINDS } from "./captions.js";
import { Live } from "./live.js";
import { Spectrogram } from "./spectrogram.js";
import { samplesOf, transcribe } from "./upload.js";

const $ = (id) => document.getElementById(id);
let models = {};
let segments = []; // final ones
let partial = null;
let live = null;
let upload = null;
let name = "recording";

const seek = (seconds) => {
  if ($("player").hidden) return;
  $("player").currentTime = seconds;
  $("player").play();
};
const picture = new Spectrogram($("timeline"), $("length"), $("spectrogram"), $("words"), seek);

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").className = wrong ? "wrong" : "";
}

function fill(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

function token() {
  return $("token").value.trim();
}

async function loadModels() {
  const health = await (await fetch("health")).json();
  $("token-label").hidden = !health.token;
  if (health.token && !token()) {
    $("server").textContent = "";
    say("This server wants a token.");
    return;
  }
  const answer = await fetch("v1/models", { headers: token() ? { Authorization: `Bearer ${token()}` } : {} });
  const content = await answer.json();
  if (!answer.ok) throw new Error(answer.status === 401 ? "The token is not that of this server." : content.error.message);
  models = Object.fromEntries(content.data.map((each) => [each.id, each]));
  fill($("model"), Object.keys(models).map((each) => [each, each]));
  $("server").textContent = location.host;
  choose();
  say("Ready.");
}

// What the chosen model can do.
function choose() {
  const model = models[$("model").value];
  const languages = Object.entries(model.languages);
  $("language-label").hidden = !languages.length;
  fill($("language"), [...(model.detects ? [["", "detect"]] : []), ...languages.sort((a, b) => a[1].localeCompare(b[1]))]);
  $("task-label").hidden = model.tasks.length < 2;
  $("task").value = "transcribe";
  fill($("chunk"), model.chunks.map((each) => [String(each), `${each} s`]), String(model.chunk));
  const isPolicy = !model.decodings.length;
  $("way-name").textContent = isPolicy ? "Policy" : "Decoding";
  fill($("way"), [["", "default"], ...(isPolicy ? model.policies : model.decodings).map((each) => [each, each.replace(/_/g, " ")])]);
  $("way").dataset.name = isPolicy ? "policy" : "decoding";
}

function chosen() {
  const query = { model: $("model").value, chunk: $("chunk").value, task: $("task").value };
  if ($("language").value) query.language = $("language").value;
  if ($("way").value) query[$("way").dataset.name] = $("way").value;
  return query;
}

function begin(what) {
  upload?.abort();
  segments = [];
  partial = null;
  name = what;
  picture.clear();
  $("latency").textContent = "";
  $("sound").hidden = false;
  $("player").hidden = true;
  $("player").pause();
  if ($("player").src) URL.revokeObjectURL($("player").src);
  seek.enabled = false;
  $("transcript").replaceChildren();
  show();
}

// Nothing can be heard before the server has said what it has; what it says instead stays there.
const connected = () => Object.keys(models).length > 0;

function lock(on) {
  $("options").querySelectorAll("select, input").forEach((each) => { each.disabled = on; });
}

// The text as it stands; segments that are shown stay.
function show() {
  for (let i = $("transcript").children.length; i < segments.length; i++) $("transcript").append(item(segments[i]));
  const words = segments.flatMap((segment) => segment.words ?? [{ word: segment.text, start: segment.start, end: segment.end }]);
  const open = (partial?.words ?? []).map((word) => ({ ...word, open: true }));
  picture.place([...words, ...open]);
  picture.duration = Math.max(picture.duration, ...[...words.slice(-1), ...open.slice(-1)].map((word) => word.end));
  picture.draw();
  $("partial").hidden = !partial?.text;
  if (partial) {
    $("partial").querySelector(".stable").textContent = partial.stable;
    $("partial").querySelector(".open").textContent = partial.text.slice(partial.stable.length);
  }
  $("empty").hidden = segments.length > 0 || Boolean(partial?.text);
  $("downloads").querySelectorAll("button").forEach((each) => { each.disabled = !segments.length; });
}

function item(segment) {
  const line = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = clock(segment.start);
  const text = document.createElement("p");
  text.dir = "auto";
  text.textContent = segment.text;
  line.append(time, text);
  return line;
}

async function record() {
  if (live) {
    live.stop();
    say("Finishing …");
    return;
  }
  if (!connected()) return;
  begin("recording");
  live = new Live({
    query: chosen(),
    token: token(),
    heard: (samples, rate) => {
      picture.push(Float32Array.from(samples, (each) => each / 32768), rate);
      picture.draw();
      if (!live.ended) say(`Listening, ${clock(live.numSamples / rate)}`);
    },
    told: (event, delay) => {
      partial = event.type === "partial" ? event : null;
      if (event.type === "final" && event.text) segments.push({ start: event.start, end: event.end, text: event.text, words: event.words });
      $("latency").textContent = `latency ${delay.toFixed(2)} s, of which the model ${event.latency.toFixed(2)} s`;
      show();
    },
    over: (error) => finish(error, "Done."),
  });
  button(true);
  lock(true);
  say("Asking for the microphone …");
  try {
    await live.start();
  } catch (error) {
    finish(error);
  }
}

function finish(error, done) {
  live = null;
  partial = null;
  button(false);
  lock(false);
  show();
  say(error ? error.message : segments.length ? done : "No speech was found.", Boolean(error));
}

function button(on) {
  $("record").setAttribute("aria-pressed", on);
  $("record").querySelector(".label").textContent = on ? "Stop" : "Record";
}

async function hear(file) {
  if (live || !file || !connected()) return;
  begin(file.name.replace(/\.[^.]*$/, "") || "recording");
  const own = new AbortController();
  upload = own;
  say(`Hearing ${file.name} …`);
  const begun = performance.now();
  samplesOf(file).then((samples) => {
    if (upload !== own || !samples) return;
    picture.follows = false;
    picture.push(samples, 16000);
    $("player").src = URL.createObjectURL(file);
    $("player").hidden = false;
    seek.enabled = true;
    picture.draw();
  });
  try {
    picture.follows = false;
    const found = await transcribe(file, { ...chosen(), token: token(), signal: own.signal }, (segment) => {
      if (upload !== own) return;
      segments.push({ start: segment.start, end: segment.end, text: segment.text, words: segment.words });
      say(`Hearing ${file.name}, ${clock(segment.end)} …`);
      show();
    });
    if (upload !== own) return;
    const seconds = (performance.now() - begun) / 1000;
    $("latency").textContent = `${found.duration.toFixed(1)} s of audio in ${seconds.toFixed(1)} s`;
    finish(null, "Done.");
  } catch (error) {
    if (upload === own) finish(error);
  }
}

function download(kind) {
  const [type, write] = KINDS[kind];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([write(segments)], { type }));
  link.download = `${name}.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// The word that is played.
function follow() {
  const now = $("player").currentTime;
  for (const each of $("words").children) each.classList.toggle("now", each.dataset.start <= now && now < each.dataset.end);
}

$("record").addEventListener("click", record);
$("file").addEventListener("change", () => {
  hear($("file").files[0]);
  $("file").value = "";
});
$("model").addEventListener("change", choose);
$("options").addEventListener("submit", (event) => event.preventDefault());
$("token").addEventListener("change", () => loadModels().catch((error) => say(error.message, true)));
$("downloads").addEventListener("click", (event) => {
  if (event.target.dataset.kind) download(event.target.dataset.kind);
});
$("player").addEventListener("timeupdate", follow);
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") hear(event.dataTransfer.files[0]);
  });
}
loadModels().catch((error) => say(`The server does not answer as it should: ${error.message}`, true));
