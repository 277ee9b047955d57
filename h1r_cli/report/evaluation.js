// --- the paper's table --------------------------------------------------------------------------------------

function suiteTable(suite) {
  const share = (value) => value.toFixed(3);
  const columns = [
    { name: "benchmark", value: (row) => row.benchmark },
    { name: "reported", number: true, value: (row) => row.reported, show: (row) => share(row.reported) },
    { name: "here", number: true, value: (row) => row.value, show: (row) => share(row.value) },
    { name: "95 % interval", value: (row) => row.low, show: (row) => `${share(row.low)} to ${share(row.high)}` },
    { name: "the reported value is", value: (row) => (row.inside ? "inside" : "outside") },
    { name: "problems", number: true, value: (row) => row.problems },
    { name: "unlike the paper", value: (row) => row.unlike || null },
  ];
  return [el("h2", {}, `Against the paper: ${suite.name}`),
    el("p", { class: "note" }, `${suite.rows.length} of ${suite.given} benchmarks; what the paper reports for Falcon-H1R-7B.`),
    sortable(columns, suite.rows, (row, cells) => el("tr", {}, cells)).element];
}

// --- one benchmark ------------------------------------------------------------------------------------------

function benchmarkSection(benchmark) {
  const samples = benchmark.samples.map((sample) => ({ ...sample, problem: benchmark.problems[sample.p] }));
  const note = samples.length < benchmark.samples_in_all
    ? `The first ${count(samples.length)} of ${count(benchmark.samples_in_all)} samples; the numbers above are of all.`
    : "A row opens, by Enter or a tap, on the question, the thought and the answer.";
  const table = sortable(SAMPLE_COLUMNS, samples, sampleRow);
  return el("section", { "data-benchmark": benchmark.name },
    el("h2", {}, benchmark.name), metricsTable(benchmark.metrics), setupOf(benchmark.setup),
    filters(samples, table), el("p", { class: "note" }, note), table.element);
}

function metricsTable(metrics) {
  const columns = [
    { name: "metric", value: (row) => row.name },
    { name: "value", number: true, value: (row) => row.value, show: (row) => row.shown },
    { name: "95 % interval", value: (row) => row.low, show: (row) => (row.low === null ? "" : `${row.low.toFixed(3)} to ${row.high.toFixed(3)}`) },
  ];
  return sortable(columns, metrics, (row, cells) => el("tr", {}, cells)).element;
}

function setupOf(setup) {
  const facts = Object.entries(setup).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  return el("details", { class: "setup" }, el("summary", {}, "How it was asked and judged"), el("dl", {}, facts));
}

const ENDED = { stop: "by itself", length: "truncated", pruned: "cut by the pruner", aborted: "stopped" };
const SAMPLE_COLUMNS = [
  { name: "problem", value: (sample) => sample.problem.id },
  { name: "sample", number: true, value: (sample) => sample.s },
  { name: "verdict", value: (sample) => VERDICT.get(sample.v), show: (sample) => badge(sample.v) || VERDICT.get(null) },
  { name: "reason", value: (sample) => sample.r, show: (sample) => clipped(sample.r) },
  { name: "answer", value: (sample) => sample.a, show: (sample) => clipped(sample.a) },
  { name: "reference", value: (sample) => sample.problem.reference, show: (sample) => clipped(sample.problem.reference) },
  { name: "ended", value: (sample) => ENDED[sample.e] || null },
  { name: "tokens", number: true, value: (sample) => sample.t },
];
const clipped = (value) => el("span", { class: "clipped", title: value }, text(value));

function sampleRow(sample, cells) {
  const row = el("tr", { class: "row", tabindex: "0", "aria-expanded": "false" }, cells);
  const turn = () => {
    const open = row.getAttribute("aria-expanded") === "true";
    row.setAttribute("aria-expanded", String(!open));
    if (open) row.nextElementSibling.remove();
    else row.after(el("tr", { class: "opened" }, el("td", { colspan: SAMPLE_COLUMNS.length }, opened(sample))));
  };
  row.addEventListener("click", turn);
  row.addEventListener("keydown", (event) => {
    if (event.key === "Enter") turn();
  });
  return row;
}

function opened(sample) {
  const part = (name, words, kind) => (words === null ? null
    : el("div", { class: `part ${kind}` }, el("h5", {}, name), el("p", { class: `plain ${kind}`, tabindex: "0" }, words || "(nothing)")));
  return el("article", {},
    el("h4", {}, `${sample.problem.id}, sample ${sample.s}`),
    el("p", { class: "note" }, `${VERDICT.get(sample.v)}${sample.r ? `: ${sample.r}` : ""}`),
    part("Question", sample.problem.prompt, "question"),
    part("Thinking", sample.think, "thought"),
    part(sample.think === null ? "Text (no thinking tags)" : "Answer", sample.text, "answer"),
    sample.think !== null && sample.text === null ? el("p", { class: "cut-here" }, "✕ the thought does not end: there is no answer") : null);
}

// --- filters ------------------------------------------------------------------------------------------------

const KEPT = [
  ["all", () => true],
  ["right", (sample) => sample.v === true],
  ["wrong", (sample) => sample.v === false],
  ["truncated", (sample) => sample.e === "length"],
  ["no answer", (sample) => sample.a === null],
];

function filters(samples, table) {
  let [chosen] = KEPT;
  const search = el("input", { type: "search", placeholder: "search question, text, reason", "aria-label": "Search" });
  const apply = () => {
    const words = search.value.toLowerCase();
    table.show(samples.filter((sample) => chosen[1](sample) && (!words || haystack(sample).includes(words))));
    for (const other of buttons) other.setAttribute("aria-pressed", String(other.dataset.kept === chosen[0]));
  };
  const buttons = KEPT.map((kept) => {
    const number = samples.filter(kept[1]).length;
    const made = button(`${kept[0]} (${count(number)})`, () => { chosen = kept; apply(); });
    made.dataset.kept = kept[0];
    return made;
  });
  search.addEventListener("input", apply);
  buttons[0].setAttribute("aria-pressed", "true");
  return el("div", { class: "filters" }, buttons, search);
}

const haystack = (sample) => [sample.problem.id, sample.problem.prompt, sample.think, sample.text, sample.r, sample.a]
  .filter((part) => part !== null).join("\n").toLowerCase();

// --- the page -----------------------------------------------------------------------------------------------

function showPage(data) {
  document.title = `Evaluation: ${data.model}`;
  document.getElementById("what").append(el("b", {}, data.model), ` on ${plural(data.benchmarks.length, "benchmark")}.`);
  if (data.suite) document.getElementById("suite").append(...suiteTable(data.suite));
  document.getElementById("benchmarks").append(...data.benchmarks.map(benchmarkSection));
  document.getElementById("left-out").append(
    "Left out to keep this page small: the middle of long texts, and samples beyond those shown. "
    + "completions-NAME.jsonl and verdicts-NAME.jsonl beside it have all of them; report.json has every number.");
}

showPage(JSON.parse(document.getElementById("data").textContent));
