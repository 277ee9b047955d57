"use strict";

// --- totals -------------------------------------------------------------------------------------------------

function totalsOf(data) {
  const totals = data.totals;
  const cards = [];
  if (totals.accuracy !== null) {
    cards.push(card("Accuracy", percent(totals.accuracy), "by the weighted vote", [
      scaleRow("vote", totals.accuracy, totals.accuracy_interval),
      scaleRow("plain majority", totals.majority_accuracy, totals.majority_accuracy_interval),
      el("p", { class: "note" }, `of ${plural(totals.problems, "problem")}; lines are 95 % intervals`),
    ]));
  } else {
    cards.push(card("Problems", count(totals.problems), "without reference answers: nothing is judged", []));
  }
  const saved = totals.tokens_saved_frac;
  cards.push(card("Tokens", count(totals.tokens), "generated", [
    meter(totals.tokens / totals.tokens_unpruned_estimate),
    el("p", { class: "note" }, `${saved < 0 ? `${percent(-saved)} more` : `${percent(saved)} fewer`} than an estimated `
      + `${count(totals.tokens_unpruned_estimate)} without cutting`),
  ]));
  const facts = [`${count(totals.traces_filled_window)} were long enough for a window`];
  if (totals.traces_aborted) facts.push(`${count(totals.traces_aborted)} stopped when the vote was settled`);
  if (totals.traces_inert) facts.push(`the pruner never saw ${count(totals.traces_inert)} that it should have judged`);
  cards.push(card("Traces cut", count(totals.traces_pruned), `of ${plural(totals.traces, "trace")}`, [
    meter(totals.traces_pruned / totals.traces),
    el("p", { class: "note" }, facts.join("; ")),
  ]));
  if (totals.audit.cut) cards.push(auditCard(totals.audit));
  return cards;
}

/** What of the traces that the threshold would have cut, and that ran on to be looked at, was right. */
function auditCard(audit) {
  const cost = el("p", { class: "note" }, `audited traces that the threshold would have cut; they do not vote, and running on `
    + `cost ${plural(audit.extra_tokens, "token")}`);
  if (audit.right === null) return card("Audit", count(audit.cut), "traces ran on", [cost]);
  return card("Audit", count(audit.right), `of ${count(audit.cut)} were right`, [
    scaleRow("right", audit.right / audit.cut, audit.right_interval), cost]);
}

function card(name, figure, what, rest) {
  return el("div", { class: "card" },
    el("h2", {}, name), el("p", { class: "figure" }, el("b", {}, figure), ` ${what}`), rest);
}

/** A share with its interval on a line from 0 to 100 %. */
function scaleRow(name, value, [low, high]) {
  const dot = el("i", { class: "dot" });
  const span = el("i", { class: "interval" });
  dot.style.left = `${100 * value}%`;
  span.style.left = `${100 * low}%`;
  span.style.width = `${100 * (high - low)}%`;
  return el("div", { class: "scale" },
    el("span", {}, name), el("span", { class: "track" }, span, dot),
    el("span", { class: "numbers" }, `${percent(value)} (${(100 * low).toFixed(0)}–${(100 * high).toFixed(0)})`));
}

function meter(share) {
  const bar = el("i", {});
  bar.style.width = `${Math.min(100, 100 * share)}%`;
  return el("div", { class: "meter", "aria-hidden": "true" }, bar);
}

function settingsOf(settings) {
  return el("dl", {}, Object.entries(settings).map(
    ([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

// --- one problem --------------------------------------------------------------------------------------------

/** A problem as a line that opens; what is in it is made when it is opened for the first time. */
function problemItem(problem, data, open) {
  const reference = problem.correct === false ? el("span", { class: "aside" }, `reference ${problem.reference}`) : null;
  const details = el("details", { "data-problem": problem.id },
    el("summary", {},
      el("span", { class: "prompt" }, problem.prompt),
      el("span", { class: "outcome" }, answerOf(problem.answer), badge(problem.correct), reference),
      el("span", { class: "cut-of" }, `${count(problem.pruned)} of ${count(problem.traces)} cut`)));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(problemBody(problem, data));
  });
  details.open = open;
  return el("li", {}, details);
}

/** Whether the line that opens a problem may not show all of its prompt. */
const isLong = (prompt) => prompt.length > 100 || prompt.includes("\n");

function problemBody(problem, data) {
  return el("div", { class: "body" },
    isLong(problem.prompt) ? el("p", { class: "question" }, problem.prompt) : null,
    el("p", { class: "note" }, problem.reference === null ? "no reference answer" : ["reference answer ", el("b", {}, problem.reference)],
      ` · ${problem.id}`),
    tracesFigure(problem, data),
    el("div", { class: "two" }, votesFigure(problem, data), rulesTable(problem, data)),
    textsOf(problem));
}

// --- traces -------------------------------------------------------------------------------------------------

function tracesFigure(problem, data) {
  const frame = el("div", { class: "chart" });
  const hint = "Point at a line, or go through the table, to see which trace it is.";
  const told = el("p", { class: "told hint", "aria-live": "polite" }, hint);
  const tell = (trace) => {
    for (const line of frame.querySelectorAll(".trace")) {
      line.classList.toggle("hot", trace !== null && line.dataset.index === String(trace.index));
    }
    told.textContent = trace === null ? hint : traceWords(trace);
    told.classList.toggle("hint", trace === null);
  };
  const all = problem.lines.length === problem.traces;
  const shown = all ? `All ${plural(problem.traces, "trace")}.`
    : `Showing ${problem.lines.length} of ${plural(problem.traces, "trace")}: ${data.how}.`;
  const threshold = problem.threshold === null ? "no threshold: nothing is cut"
    : data.pruner_reads_each_window ? null : `the pruner ${data.settings.pruner} compares something else with the threshold`;
  requestAnimationFrame(() => drawChart(frame, problem, tell));
  return el("figure", { class: "traces" },
    el("h3", {}, "Confidence along the traces"), legend(problem), frame, told,
    el("figcaption", {}, `${shown} A point is the least sure window of its stretch of the trace`,
      threshold && `; ${threshold}`, "."),
    tracesTable(problem, tell));
}

function traceWords(trace) {
  const ended = { pruned: "cut", aborted: "stopped", length: "ran out of room", stop: "ended by itself" }[trace.end];
  const verdict = trace.correct === null ? "" : `, ${VERDICT.get(trace.correct)}`;
  const answer = trace.answer === null ? "" : `, answer ${trace.answer}`;
  const audit = trace.cut === null ? "" : `; would have been cut after ${count(trace.cut)}`;
  return `Trace ${trace.index} (${trace.phase}): ${ended} after ${plural(trace.tokens, "token")}${answer}${verdict}; `
    + `least sure window ${nats(trace.lowest)} nats${audit}`;
}

/** The kinds of lines and marks that occur, each with its look and how many of the shown traces are of it. */
function legend(problem) {
  const items = [...KINDS].reverse().map(([kind, words]) => {
    const number = problem.lines.filter((trace) => kindOf(trace) === kind).length;
    return number ? sample(`trace ${kind}`, kind === "cut" ? "cross" : "dot", `${words} (${number})`) : null;
  });
  const stopped = problem.lines.filter((trace) => trace.end === "aborted").length;
  const audited = problem.lines.filter((trace) => trace.cut !== null).length;
  if (stopped) items.push(sample("trace unjudged", "square", `stopped, the vote was settled (${stopped})`));
  if (audited) items.push(sample("trace unjudged", "diamond", `audited: where the threshold would have cut (${audited})`));
  return el("ul", { class: "legend" }, items);
}

function sample(kind, mark, words) {
  const marks = {
    cross: () => svg("path", { class: "mark", d: "M26 4l8 8m0 -8l-8 8" }),
    dot: () => svg("circle", { class: "mark dot", cx: 30, cy: 8, r: 2.5 }),
    square: () => svg("rect", { class: "mark", x: 27, y: 5, width: 6, height: 6 }),
    diamond: () => svg("path", { class: "mark", d: "M30 3l5 5l-5 5l-5 -5z" }),
  };
  return el("li", {},
    svg("svg", { width: 36, height: 16, "aria-hidden": "true" },
      svg("g", { class: kind }, svg("path", { class: "line", d: "M1 8H29" }), marks[mark]())), words);
}

function tracesTable(problem, tell) {
  const rows = problem.lines.map((trace) => {
    const row = el("tr", { tabindex: "0" },
      el("td", {}, String(trace.index)), el("td", {}, trace.phase), el("td", {}, trace.end),
      el("td", {}, trace.answer === null ? "–" : trace.answer), el("td", {}, badge(trace.correct) || "–"),
      el("td", { class: "number" }, count(trace.tokens)), el("td", { class: "number" }, nats(trace.lowest)));
    for (const name of ["focus", "pointerenter"]) row.addEventListener(name, () => tell(trace));
    for (const name of ["blur", "pointerleave"]) row.addEventListener(name, () => tell(null));
    return row;
  });
  return el("details", { class: "table" }, el("summary", {}, "These traces as a table"),
    table(["trace", "phase", "end", "answer", "verdict", "tokens", "least sure window, nats"], [5, 6], rows));
}

function table(heads, numbers, rows) {
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, heads.map((head, i) => el("th", { scope: "col", class: numbers.includes(i) && "number" }, head)))),
    el("tbody", {}, rows)));
}

// --- votes --------------------------------------------------------------------------------------------------

function votesFigure(problem, data) {
  const most = problem.votes.reduce((top, vote) => Math.max(top, vote.weight), 0);
  const rows = problem.votes.map((vote) => {
    const bar = el("i", { class: vote.correct === null ? "unjudged" : VERDICT.get(vote.correct) });
    bar.style.width = most ? `${(100 * vote.weight) / most}%` : "0";
    return el("li", { class: vote.elected && "elected" },
      el("span", { class: "name" }, el("b", { class: "answer" }, vote.answer),
        vote.elected ? el("span", { class: "tag" }, "elected") : null,
        vote.correct ? el("span", { class: "tag reference" }, "✓ reference") : null),
      el("span", { class: "bar" }, bar),
      el("span", { class: "numbers" }, weightOf(vote)));
  });
  const rest = problem.votes_left_out;
  const missed = problem.reference !== null && !problem.votes.some((vote) => vote.correct);
  return el("figure", { class: "votes" },
    el("h3", {}, "Votes"),
    el("p", { class: "note" }, `${plural(problem.voters, "vote")} by ${data.settings.vote}; bars are weights, in ${data.weight_unit}`),
    el("ol", {}, rows),
    rest.answers ? el("p", { class: "note" },
      `and ${plural(rest.answers, "further answer")}: ${weightOf(rest)}`) : null,
    problem.votes.length ? null : el("p", {}, "No trace voted."),
    missed ? el("p", { class: "note" }, `The reference ${problem.reference} is not among ${rest.answers ? "these" : "the"} answers.`) : null);
}

/** The weight of some votes and their number. */
function weightOf(votes) {
  const digits = Number.isInteger(votes.weight) ? 0 : 1;
  const weight = votes.weight.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${weight} · ${plural(votes.traces, "vote")}`;
}

function rulesTable(problem, data) {
  const rows = problem.rules.map((rule) => el("tr", { class: rule.rule === data.settings.vote && "chosen" },
    el("th", { scope: "row" }, rule.rule), el("td", {}, answerOf(rule.answer)), el("td", {}, badge(rule.correct) || "–")));
  return el("figure", { class: "rules" }, el("h3", {}, "The answer by every vote rule"),
    table(["rule", "answer", "verdict"], [], rows));
}

// --- the page -----------------------------------------------------------------------------------------------

function showPage(data) {
  const shown = data.problems.length;
  document.title = `DeepConf: ${data.model}`;
  document.getElementById("what").append(
    el("b", {}, data.model), ` on the engine ${data.engine}: many traces for each problem, those less sure than a `
    + "threshold cut early, and a vote of the rest.");
  document.getElementById("totals").append(...totalsOf(data));
  document.getElementById("settings").append(settingsOf(data.settings));
  document.getElementById("which").append(shown < data.problems_in_all
    ? `The first ${count(shown)} of ${count(data.problems_in_all)} problems; the totals are of all.`
    : "Each opens, by Enter or a tap, on its traces, its votes and their text.");
  document.getElementById("problems").append(...data.problems.map((problem, i) => problemItem(problem, data, i === 0)));
  document.getElementById("left-out").append(
    "Left out to keep this page small: most points of long traces, most traces of large budgets, most of the text. "
    + "traces.parquet beside it has every token; report.json has every number.");
}

showPage(JSON.parse(document.getElementById("data").textContent));
