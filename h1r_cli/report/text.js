"use strict";

// The text of a few traces, each token tinted by its confidence.

function textsOf(problem) {
  const every = problem.texts.flatMap((text) => text.parts.flatMap((part) => part.nats)).sort((a, b) => a - b);
  const range = { low: every[Math.floor(0.02 * every.length)], high: every[Math.floor(0.9 * every.length)] };
  return el("section", { class: "texts" }, el("h3", {}, "The text with its confidence"),
    every.length ? scaleOf(range) : el("p", {}, "No text."),
    problem.texts.map((text) => textArticle(text, problem, range)));
}

function scaleOf(range) {
  return el("p", { class: "heat-scale note" }, "confidence of each token: ",
    [0, 1, 2, 3, 4].map((level) => el("span", { class: `heat-${level}` },
      level === 0 ? `${nats(range.high)} nats and more` : level === 4 ? `${nats(range.low)} and less` : "\u00a0\u00a0\u00a0")));
}

/** 0 for what is sure to 4 for what is least sure. */
function heat(value, range) {
  const unsure = (range.high - value) / Math.max(1, range.high - range.low);
  return Math.min(4, Math.max(0, Math.round(4 * unsure)));
}

function textArticle(text, problem, range) {
  const trace = problem.lines.find((line) => line.index === text.index);
  const told = el("p", { class: "told", "aria-live": "polite" }, leastSure(text));
  const parts = [];
  let end = 0;
  for (const part of text.parts) {
    if (part.first > end) parts.push(el("p", { class: "gap" }, `… ${plural(part.first - end, "token")} left out …`));
    parts.push(textPart(part, range, told));
    end = part.first + part.texts.length;
  }
  return el("article", { "data-trace": text.index },
    el("h4", {}, `Trace ${text.index}: ${text.why}`),
    el("p", { class: "note" }, traceWords(trace)),
    parts,
    trace.end === "pruned" ? el("p", { class: "cut-here" }, `✕ cut here, below ${problem.threshold.toFixed(3)} nats`) : null,
    told);
}

const PART = { thinking: "Thinking", answer: "Answer", text: "Text (no thinking tags)" };

function textPart(part, range, told) {
  const spans = part.texts.map((word, i) => {
    const shown = word === "" ? "▫" : word.replaceAll("\n", "↵\n");
    return el("span", { class: `heat-${heat(part.nats[i], range)}`, "data-at": i }, shown);
  });
  const body = el("p", { class: "heat", tabindex: "0" }, spans);
  const words = told.textContent;
  body.addEventListener("pointerover", (event) => {
    const at = event.target.dataset.at;
    if (at === undefined) return;
    told.textContent = `token ${count(part.first + Number(at) + 1)}, ${quoted(part.texts[at])}: ${nats(part.nats[at])} nats`;
    told.classList.add("live");
  });
  body.addEventListener("pointerleave", () => {
    told.textContent = words;
    told.classList.remove("live");
  });
  return el("div", { class: `part ${part.part}` }, el("h5", {}, PART[part.part]), body);
}

/** The five least sure tokens in words. */
function leastSure(text) {
  const tokens = text.parts.flatMap((part) => part.texts.map((word, i) => [part.nats[i], word, part.first + i + 1]));
  tokens.sort((a, b) => a[0] - b[0]);
  const words = tokens.slice(0, 5).map(([value, word, at]) => `${quoted(word)} at ${count(at)} (${nats(value)})`);
  return `Least sure tokens, in nats: ${words.join(", ")}`;
}

const quoted = (word) => (word === "" ? "part of a character or an end token" : `“${word.replaceAll("\n", "↵")}”`);
