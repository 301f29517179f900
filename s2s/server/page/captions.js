// Segments as text, subtitles and JSON. A segment has start, end (seconds), text and, where known, words.

const MOST_CHARACTERS = 84;
const MOST_SECONDS = 7;

export const KINDS = {
  txt: ["text/plain", (segments) => segments.map((each) => `${each.text}\n`).join("")],
  srt: ["application/x-subrip", (segments) => captions(segments)
    .map((each, i) => `${i + 1}\n${clock(each.start, ",")} --> ${clock(each.end, ",")}\n${each.text.replace(/-{2,}>/g, "->")}\n\n`)
    .join("")],
  vtt: ["text/vtt", (segments) => "WEBVTT\n" + captions(segments)
    .map((each) => `\n${clock(each.start, ".")} --> ${clock(each.end, ".")}\n${escaped(each.text)}\n`).join("")],
  json: ["application/json", (segments) => JSON.stringify({ text: segments.map((each) => each.text).join(" "), segments }, null, 2) + "\n"],
};

// Segments cut into captions that can be read while they are shown, where words have times.
function captions(segments) {
  return segments.flatMap((segment) => {
    if (!segment.words?.length) return [segment];
    const found = [];
    for (const word of segment.words) {
      const last = found.at(-1);
      const fits = last && last.text.length + word.word.length < MOST_CHARACTERS && word.end - last.start <= MOST_SECONDS;
      if (fits) {
        last.text += ` ${word.word}`;
        last.end = word.end;
      } else {
        found.push({ start: word.start, end: word.end, text: word.word });
      }
    }
    return found;
  });
}

export function clock(seconds, point) {
  const all = Math.round(1000 * seconds);
  const parts = [all / 3600000, (all / 60000) % 60, (all / 1000) % 60].map((each) => String(Math.floor(each)).padStart(2, "0"));
  return point ? `${parts.join(":")}${point}${String(all % 1000).padStart(3, "0")}` : parts.slice(all < 3600000 ? 1 : 0).join(":");
}

function escaped(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}
