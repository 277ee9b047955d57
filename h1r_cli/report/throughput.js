// --- the ratios ---------------------------------------------------------------------------------------------

const figures = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumSignificantDigits: 3 }));
const rate = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: value >= 100 ? 0 : 1 }));
const optionsOf = (cell) => Object.entries(cell.options).map(([name, value]) => `${name}=${value}`).join(", ") || null;
const SHAPE = [
  { name: "in", number: true, value: (row) => row.cell.input_tokens },
  { name: "out", number: true, value: (row) => row.cell.output_tokens },
  { name: "batch", number: true, value: (row) => row.cell.batch },
  { name: "options", value: (row) => optionsOf(row.cell) },
];

function ratios(data) {
  const columns = [
    ...SHAPE,
    { name: data.names[0], number: true, value: (row) => row.cell.a.output_per_s, show: (row) => rate(row.cell.a.output_per_s) },
    { name: data.names[1], number: true, value: (row) => row.cell.b.output_per_s, show: (row) => rate(row.cell.b.output_per_s) },
    { name: "B / A", number: true, value: (row) => (row.cell.ratio ? row.cell.ratio.value : null), show: (row) => (row.cell.ratio ? row.cell.ratio.value.toFixed(3) : "–") },
    { name: "95 % interval, or range of fewer than 6 pairs", value: (row) => (row.cell.ratio ? row.cell.ratio.low : null), show: (row) => (row.cell.ratio ? `${row.cell.ratio.low.toFixed(3)} to ${row.cell.ratio.high.toFixed(3)}` : "a side is not valid") },
    { name: "by the roofs", number: true, value: (row) => row.cell.roof_ratio, show: (row) => figures(row.cell.roof_ratio) },
  ];
  const rows = data.cells.map((cell) => ({ cell }));
  return [el("h2", {}, "B against A"), el("p", { class: "note" }, "Output tokens a second; the ratio, by device, is the median of pairs of repeats that were measured in turn."),
    sortable(columns, rows, (row, cells) => el("tr", {}, cells)).element];
}

// --- every side of every cell -------------------------------------------------------------------------------

const ms = (seconds) => (seconds === null || seconds === undefined ? "–" : `${figures(1000 * seconds)} ms`);
const gib = (bytes) => (bytes === null || bytes === undefined ? "–" : `${figures(bytes / 2 ** 30)} GiB`);
const spread = (name, key) => ({
  name, number: true,
  value: (row) => (row.typical && row.typical[key] ? row.typical[key].p50 : null),
  show: (row) => (row.typical && row.typical[key] ? ["p50", "p90", "p99"].map((level) => ms(row.typical[key][level]).replace(" ms", "")).join(" / ") : "–"),
});
const typical = (name, key) => ({ name, number: true, value: (row) => row.typical && row.typical[key], show: (row) => rate(row.typical && row.typical[key]) });
const byConfig = (name, key, show) => ({ name, number: true, value: (row) => row.found.arithmetic && row.found.arithmetic[key], show: (row) => show(row.found.arithmetic && row.found.arithmetic[key]) });

function everything(data) {
  const columns = [
    ...SHAPE,
    { name: "side", value: (row) => row.name },
    { name: "outcome", value: (row) => row.found.outcome.replaceAll("-", " ") },
    { name: "why it is not valid", value: (row) => row.found.reasons.join("; ") || null, show: (row) => el("span", { class: "reasons" }, row.found.reasons.join("; ")) },
    { name: "tokens/s", number: true, value: (row) => row.found.output_per_s, show: (row) => rate(row.found.output_per_s) },
    { name: "lowest to highest", value: (row) => row.found.low_per_s, show: (row) => (row.found.low_per_s === null ? "–" : `${rate(row.found.low_per_s)} to ${rate(row.found.high_per_s)}`) },
    { name: "by device", number: true, value: (row) => row.found.device_per_s, show: (row) => rate(row.found.device_per_s) },
    { name: "published", number: true, value: (row) => row.found.published_per_s, show: (row) => rate(row.found.published_per_s) },
    byConfig("roof", "roof_per_s", rate),
    { name: "of roof", number: true, value: (row) => row.found.share, show: (row) => (row.found.share === null ? "–" : percent(row.found.share)) },
    typical("with prompts", "total_per_s"),
    typical("prefill", "prefill_per_s"),
    typical("decode", "decode_per_s"),
    spread("first token, ms, p50 / p90 / p99", "first_token_s"),
    spread("token, ms", "token_s"),
    spread("whole, ms", "whole_s"),
    { name: "peak memory", number: true, value: (row) => row.found.memory_bytes, show: (row) => gib(row.found.memory_bytes) },
    { name: "before the cell", number: true, value: (row) => row.found.loaded_bytes, show: (row) => gib(row.found.loaded_bytes) },
    byConfig("weights and sequences", "memory_bytes", gib),
    byConfig("a sequence", "sequence_bytes", gib),
    byConfig("of it state", "state_bytes", gib),
    byConfig("largest batch", "largest_batch", text),
    { name: "queued", number: true, value: (row) => row.typical && row.typical.queued },
    { name: "preemptions", number: true, value: (row) => row.typical && row.typical.preemptions },
    { name: "J/token", number: true, value: (row) => row.found.joules_per_token, show: (row) => figures(row.found.joules_per_token) },
    { name: "W", number: true, value: (row) => row.found.power_w, show: (row) => figures(row.found.power_w) },
    { name: "clock, MHz", value: (row) => row.found.clock_mhz && row.found.clock_mhz.join(" to ") },
    { name: "throttled by", value: (row) => row.found.throttled && row.found.throttled.join(", ") },
  ];
  const rows = data.cells.flatMap((cell) => ["a", "b"].filter((side) => cell[side]).map((side, place) => ({ cell, found: cell[side], typical: cell[side].typical, name: data.names[place] })));
  return [el("h2", {}, "Every cell"), el("p", { class: "note" }, "Latencies are of the repeat with the median rate; memory by sequence, the largest batch and the roof are by the model's config."),
    sortable(columns, rows, (row, cells) => el("tr", {}, cells)).element];
}

// --- the page -----------------------------------------------------------------------------------------------

function setup(data) {
  const facts = Object.entries(data.setup).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
  return [el("h2", {}, "How it was measured"), el("dl", {}, facts)];
}

function showPage(data) {
  const two = data.names.length > 1;
  document.title = `Throughput: ${data.names.join(" and ")}`;
  document.getElementById("what").append(el("b", {}, data.names[0]), ...(two ? [" and ", el("b", {}, data.names[1])] : []), `, ${plural(data.cells.length, "cell")}.`);
  const valid = data.cells.filter((cell) => cell.a.outcome === "valid" && (!cell.b || cell.b.outcome === "valid")).length;
  document.getElementById("picture").append(
    el("img", { src: data.picture, alt: "Output tokens a second by batch, a panel for each shape; the tables below hold the numbers" }),
    el("figcaption", {}, `Bars are medians of the repeats and thin lines their extremes; hollow bars failed a gate; a dashed line is the roof, a diamond what is published, a number B / A. ${valid} of ${plural(data.cells.length, "cell")} valid.`));
  document.getElementById("cells").append(...(two ? ratios(data) : []), ...everything(data));
  document.getElementById("setup").append(...setup(data));
  document.getElementById("left-out").append("report.json beside this page holds every repeat, cells.csv these tables.");
}

showPage(JSON.parse(document.getElementById("data").textContent));
