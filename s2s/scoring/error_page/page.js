"use strict";
(() => {
  const data = JSON.parse(document.getElementById("content").textContent);
  const pair = data.systems.length === 2;
  const letters = pair ? ["A", "B"] : ["Hyp"];
  const colours = ["first", "second"];
  const batch = 50;
  const byId = (id) => document.getElementById(id);

  // An element; keys of properties that start with "on" are listeners. Texts are only ever set as text.
  function make(tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(properties || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else element.setAttribute(key, value === true ? "" : value);
    }
    for (const child of children) if (child !== null && child !== undefined) element.append(child);
    return element;
  }
  const number = (value) => value.toLocaleString("en");
  const plural = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;
  const score = (value) => (value === null ? "–" : value.toFixed(2));
  const fold = (text) => text.normalize("NFC").toLowerCase();
  const breakable = (path) => make("bdi", null, ...path.split(/(?<=[/\\])/).flatMap((part) => [part, make("wbr")]));
  const shown = (token) => (token === " " ? "␣" : token);

  // ---- utterances

  // A column is a word where all agree, else [reference, output, ...] with null for nothing.
  const cells = (column) => (typeof column === "string" ? [column, ...letters.map(() => column)] : column);
  const errors = (utterance, system) => utterance.systems[system].edits.reduce((sum, each) => sum + each, 0);
  const anyError = (utterance) => letters.some((_, system) => errors(utterance, system) > 0 || utterance.systems[system].missing);
  const separator = data.unit === "word" ? " " : "";

  function haystack(utterance) {
    if (utterance.haystack === undefined) {
      const rows = [[], ...letters.map(() => [])];
      for (const column of utterance.columns) {
        cells(column).forEach((token, row) => { if (token !== null) rows[row].push(token); });
      }
      const texts = rows.map((row) => row.join(separator));
      utterance.haystack = fold([utterance.id, utterance.speaker || "", ...texts].join("\n"));
    }
    return utterance.haystack;
  }

  function column(tokens) {
    const [reference, ...outputs] = cells(tokens);
    const top = reference === null ? make("span", { class: "nothing" }, "·") : make("span", null, shown(reference));
    const below = outputs.map((output) => {
      if (output === reference) return make("span", { class: output === null ? "nothing" : "same" }, output === null ? "·" : shown(output));
      if (output === null) return make("del", { class: "deleted", title: "deleted" }, shown(reference));
      if (reference === null) return make("ins", { class: "inserted", title: "inserted" }, shown(output));
      return make("ins", { class: "substituted", title: `in place of ${reference}` }, shown(output));
    });
    return make("span", { class: "column" }, top, ...below);
  }

  function facts(utterance) {
    const parts = [];
    utterance.systems.forEach((each, system) => {
      const count = errors(utterance, system);
      const what = each.missing ? "no output" : data.metric.endsWith("ER") && data.metric !== "TER"
        ? (count ? `${count} of ${utterance.length} wrong` : "right")
        : `${data.metric} ${score(each.score)}`;
      const text = pair ? `${letters[system]}: ${what}` : what;
      const best = utterance.better === system;
      parts.push(make("span", { class: `${colours[system]} ${best ? "better" : count ? "" : "good"}` }, text, best ? " (better)" : ""));
    });
    return parts;
  }

  function player(utterance) {
    const embedded = byId(`audio-${utterance.place}`);
    const source = embedded ? `data:audio/flac;base64,${embedded.textContent}` : utterance.audio;
    if (!source) return null;
    return make("audio", { controls: true, preload: "none", src: source, "aria-label": `Audio of ${utterance.id}` });
  }

  function card(utterance) {
    const labels = ["Ref", ...letters].map((label) => make("span", null, label));
    return make("li", { class: "utterance", tabindex: "-1" },
      make("div", { class: "facts" },
        make("h3", { dir: "auto" }, utterance.id),
        utterance.speaker === undefined ? null : make("span", { class: "good", dir: "auto" }, utterance.speaker),
        ...facts(utterance), player(utterance)),
      make("div", { class: "alignment" },
        make("div", { class: "labels", "aria-hidden": "true" }, ...labels),
        make("div", { class: "columns", dir: "auto" }, ...utterance.columns.map(column))));
  }

  // ---- which utterances, in which order

  const worse = (system) => (utterance) => {
    const value = utterance.systems[system].score;
    return value === null ? Infinity : data.higher_is_better ? -value : value;
  };
  const worst = (utterance) => Math.max(...letters.map((_, system) => worse(system)(utterance)));
  const most = (utterance) => Math.max(...letters.map((_, system) => errors(utterance, system)));
  const gap = (utterance) => {
    const value = worse(1)(utterance) - worse(0)(utterance);
    return Number.isNaN(value) ? 0 : value;
  };
  const orders = [
    ["As in the file", null],
    ["Most errors first", (u) => -most(u)],
    [data.higher_is_better ? "Lowest score first" : "Highest rate first", (u) => -worst(u)],
    ["Longest first", (u) => -u.length],
    ["Shortest first", (u) => u.length],
    ...(pair ? [["A ahead of B first", (u) => -gap(u)], ["B ahead of A first", gap]] : []),
  ];
  const filters = [
    ["All", () => true],
    ["With errors", anyError],
    ["Without errors", (u) => !anyError(u)],
    ...(pair ? [
      ["A better", (u) => u.better === 0],
      ["B better", (u) => u.better === 1],
      ["Neither better", (u) => u.better === null],
    ] : []),
  ];
  let chosen = [];
  let rendered = 0;
  let focus = null; // what a table's row or a cell chose: {label, test}

  function renderMore() {
    const next = chosen.slice(rendered, rendered + batch);
    byId("list").append(...next.map(card));
    rendered += next.length;
    byId("more").hidden = rendered >= chosen.length;
    watch.unobserve(byId("more")); // so that it is looked at anew, even if it never left the view
    watch.observe(byId("more"));
  }
  const watch = new IntersectionObserver((entries) => { if (entries.some((each) => each.isIntersecting)) renderMore(); }, { rootMargin: "800px" });

  function choose() {
    const query = fold(byId("search").value).trim();
    const keep = filters[byId("filter").value][1];
    const key = orders[byId("order").value][1];
    chosen = data.utterances.filter((u) => keep(u) && (!focus || focus.test(u)) && (!query || haystack(u).includes(query)));
    if (key) {
      const keys = new Map(chosen.map((u) => [u, key(u)]));
      chosen.sort((a, b) => (keys.get(a) === keys.get(b) ? 0 : keys.get(a) - keys.get(b)));
    }
    byId("found").textContent = `${number(chosen.length)} of ${plural(data.utterances.length, "utterance")}`;
    byId("focus").hidden = !focus;
    byId("focus").textContent = focus ? `only ${focus.label} ×` : "";
    byId("list").replaceChildren();
    rendered = 0;
    renderMore();
  }

  function only(label, test) {
    focus = { label, test };
    choose();
    byId("utterances").scrollIntoView();
    byId("focus").focus({ preventScroll: true });
  }
  const onlyButton = (text, label, test) => make("button", { class: "link", type: "button", dir: "auto", onclick: () => only(label, test) }, text);
  const has = (system, reference, output) => (u) => u.columns.some((each) => {
    if (typeof each === "string") return false;
    return each[0] === reference && each[1 + system] === output;
  });

  function setUpList() {
    for (const [id, options] of [["filter", filters], ["order", orders]]) {
      byId(id).append(...options.map(([label], place) => make("option", { value: String(place) }, label)));
      byId(id).addEventListener("change", choose);
    }
    let timer = 0;
    byId("search").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(choose, 120); });
    byId("tools").addEventListener("submit", (event) => { event.preventDefault(); choose(); });
    byId("focus").addEventListener("click", () => { focus = null; choose(); byId("search").focus({ preventScroll: true }); });
    byId("more").addEventListener("click", renderMore);
    document.addEventListener("keydown", onKey);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const current = document.activeElement.closest(".utterance");
    if (event.key === "/") byId("search").focus();
    else if (event.key === "j" || event.key === "k") {
      if (current && event.key === "j" && !current.nextElementSibling) renderMore();
      const next = current ? (event.key === "j" ? current.nextElementSibling : current.previousElementSibling) : byId("list").firstElementChild;
      if (next) { next.focus({ preventScroll: true }); next.scrollIntoView({ block: "nearest" }); }
    } else if (event.key === "p" && current) {
      const audio = current.querySelector("audio");
      if (audio && audio.paused) audio.play(); else if (audio) audio.pause();
    } else return;
    event.preventDefault();
  }

  // ---- tables

  function table(headings, rows) {
    const head = headings.map(([text, kind]) => make("th", { scope: "col", class: kind }, text));
    return make("table", null, make("thead", null, make("tr", null, ...head)), make("tbody", null, ...rows));
  }
  const swatch = (system) => make("span", { class: `swatch ${colours[system]}`, "aria-hidden": "true" });
  const named = (system) => (pair ? `${letters[system]} ` : "");
  const scroll = (label, ...children) => make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...children);

  function showTotals() {
    const edits = ["substituted", "deleted", "inserted"];
    const rows = data.systems.map((each, system) => make("tr", null,
      make("td", { class: "name" }, pair ? swatch(system) : null, named(system), breakable(each.name)),
      make("td", { class: "score" }, score(each.score)),
      ...each.edits.map((count) => make("td", null, number(count))),
      make("td", null, `${number(each.wrong)} of ${number(data.utterances.length)}`),
      make("td", null, number(each.empty)),
      make("td", null, number(each.missing))));
    const headings = [["System", "text"], [data.metric], ...edits.map((each) => [each]), ["utterances not right"], ["empty"], ["no output"]];
    const signatures = [...new Set(data.systems.map((each) => each.signature))];
    byId("totals").append(make("div", { class: "scroll" }, table(headings, rows)),
      ...signatures.map((each) => make("p", { class: "quiet" }, "signature ", make("code", null, each))));
    if (pair) byId("totals").append(...versus());
    const legend = edits.map((kind) => make("span", { class: "column" }, make(kind === "deleted" ? "del" : "ins", { class: kind }, kind)));
    byId("utterances").querySelector("h2").after(make("p", { class: "legend quiet", "aria-label": "Colours" }, ...legend));
  }

  function versus() {
    const bars = [["A better", 0], ["neither", null], ["B better", 1]].map(([label, better]) => {
      const count = data.utterances.filter((each) => each.better === better).length;
      const style = `flex-grow: ${count}`;
      const test = (each) => each.better === better;
      return make("button", { type: "button", class: better === null ? null : colours[better], style, onclick: () => only(label, test) }, `${label}: ${number(count)}`);
    });
    const group = make("div", { class: "versus", role: "group", "aria-label": "Utterances by the better system" }, ...bars);
    const result = data.comparison;
    if (!result) return [group];
    const range = result.difference_interval.map((each) => each.toFixed(2)).join(" to ");
    const tests = result.tests.map((each) => `${each.name} p = ${each.p_value === null ? "–" : each.p_value.toPrecision(3)}`).join(", ");
    return [
      group,
      make("p", null, make("strong", null, result.conclusion)),
      make("p", { class: "quiet" }, `B - A: ${result.difference.toFixed(2)} ${data.metric}, 95 % interval ${range}; ${tests}.`),
    ];
  }

  function showGroups(id, title, what, groups, test) {
    const section = byId(id);
    if (!groups.length) return;
    const top = Math.max(...groups.flatMap((group) => group.scores.map((each) => each || 0)), 1e-9);
    const rows = groups.map((group, place) => make("tr", null,
      make("td", null, onlyButton(group.label, `${what} ${group.label}`, test(group, place))),
      make("td", { class: "minor" }, number(group.utterances)),
      make("td", { class: "minor" }, number(group.tokens)),
      ...group.scores.map((each) => make("td", null, score(each))),
      make("td", { class: "bars", "aria-hidden": "true" }, ...group.scores.map((each, system) => make("span", { class: `bar ${colours[system]}`, style: `inline-size: ${(100 * (each || 0)) / top}%` })))));
    const headings = [[title[0], "text"], ["utterances", "minor"], [`${data.unit}s`, "minor"], ...letters.map((_, system) => [`${named(system)}${data.metric}`]), [""]];
    section.append(make("h2", null, title[1]), scroll(title[1], table(headings, rows)));
    section.hidden = false;
  }

  function showWords() {
    if (!data.words.length) return;
    const top = Math.max(...data.words.flatMap((each) => each.wrong));
    const rows = data.words.map((each) => make("tr", null,
      make("td", { class: "name" }, onlyButton(shown(each.word), `with ${each.word} wrong`, (u) => u.columns.some((tokens) => typeof tokens !== "string" && tokens[0] === each.word))),
      make("td", { class: "minor" }, number(each.count)),
      ...each.wrong.map((count) => make("td", null, number(count))),
      make("td", { class: "bars", "aria-hidden": "true" }, ...each.wrong.map((count, system) => make("span", { class: `bar ${colours[system]}`, style: `inline-size: ${(100 * count) / top}%` })))));
    const headings = [[data.unit, "text"], ["in references", "minor"], ...letters.map((_, system) => [`${named(system)}wrong`]), [""]];
    byId("words").append(make("h2", null, `${data.unit === "word" ? "Words" : "Characters"} most often wrong`), scroll("Wrong words", table(headings, rows)));
    byId("words").hidden = false;
  }

  function showConfusions(system = 0) {
    const section = byId("confusions");
    if (data.systems.every((each) => !each.confusions.length)) return;
    section.replaceChildren(make("h2", null, "Confusions"));
    if (pair) {
      section.append(make("div", { class: "switch", role: "group", "aria-label": "System" }, ...letters.map((letter, each) => make("button", {
        type: "button", "aria-pressed": String(each === system), onclick: () => { showConfusions(each); section.querySelectorAll(".switch button")[each].focus(); },
      }, swatch(each), letter))));
    }
    const { confusions, table: grid } = data.systems[system];
    const rows = confusions.map(([reference, output, count]) => make("tr", null,
      make("td", { class: "text name" }, reference === null ? make("i", { class: "quiet" }, "inserted") : make("bdi", null, shown(reference))),
      make("td", { class: "text name" }, output === null ? make("i", { class: "quiet" }, "deleted") : make("bdi", null, shown(output))),
      make("td", null, onlyButton(number(count), `${reference === null ? "inserted" : reference} → ${output === null ? "deleted" : output}`, has(system, reference, output)))));
    const list = scroll("Confusions", table([["reference", "text"], ["output", "text"], ["times"]], rows));
    section.append(make("div", { class: "beside" }, list, grid.words.length ? matrix(system, grid) : null));
    section.hidden = false;
  }

  // The last two rows and columns are other words, left out where none is wrong, and what is inserted or deleted.
  function matrix(system, grid) {
    const others = grid.words.length;
    const top = Math.max(1, ...grid.counts.slice(0, others).flatMap((row, i) => row.slice(0, others).filter((_, j) => i !== j)));
    const names = (last) => [...grid.words.map(shown), "other words", last];
    const places = names("").map((_, place) => place);
    const rows = places.filter((i) => i !== others || grid.counts[i].some((count, j) => count && j !== others));
    const columns = places.filter((j) => j !== others || grid.counts.some((row, i) => row[j] && i !== others));
    function cell(i, j) {
      const count = grid.counts[i][j];
      if (!count || (i === others && j === others)) return make("td");
      if (i === j || i >= others || j >= others) return make("td", { class: i === j ? "right" : null }, number(count));
      const [reference, output] = [grid.words[i], grid.words[j]];
      const style = `background: rgb(var(--substituted) / ${(0.1 + (0.35 * count) / top).toFixed(2)})`;
      const choice = () => only(`${reference} → ${output}`, has(system, reference, output));
      return make("td", { style }, make("button", { type: "button", title: `${reference} taken for ${output}`, onclick: choice }, number(count)));
    }
    const head = make("tr", null, make("td"), ...columns.map((j) => make("th", { scope: "col", title: names("deleted")[j] }, names("deleted")[j])));
    const body = rows.map((i) => make("tr", null, make("th", { scope: "row", title: names("inserted")[i] }, names("inserted")[i]), ...columns.map((j) => cell(i, j))));
    const grown = make("table", { class: "matrix" }, make("caption", { class: "quiet" }, "Reference in rows, output in columns"),
      make("thead", null, head), make("tbody", null, ...body));
    return make("div", { class: "wide scroll", tabindex: "0", role: "region", "aria-label": "Confusion table" }, grown);
  }

  data.utterances.forEach((utterance, place) => { utterance.place = place; });
  byId("size").textContent = `${plural(data.utterances.length, "utterance")}, ${plural(data.tokens, data.unit)} in the references`;
  showTotals();
  showGroups("lengths", [`${data.unit}s`, "By length of the reference"], `${data.unit}s:`, data.lengths, (_, place) => (u) => u.group === place);
  showGroups("speakers", ["speaker", "By speaker"], "speaker", data.speakers, (group) => (u) => u.speaker === group.label);
  showWords();
  showConfusions();
  setUpList();
  choose();
})();
