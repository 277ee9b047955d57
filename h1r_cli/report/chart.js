"use strict";

// The window confidence of a problem's traces over tokens, drawn for the width that there is.

const KINDS = [
  ["unjudged", "ended, not judged"],
  ["cut", "cut by the threshold"],
  ["wrong", "ended, wrong"],
  ["right", "ended, right"],
];

/** Round steps that divide a range into at most `most` parts. */
function ticks(low, high, most) {
  const raw = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-9); i++) found.push(i * step);
  return { values: found, digits: Math.max(0, -Math.floor(Math.log10(step))) };
}

/** The scales of a chart of `width` pixels: from tokens and nats to pixels. */
function scales(problem, width) {
  const height = width < 560 ? 260 : 340;
  const box = { left: 42, right: width - 10, top: 26, bottom: height - 36 };
  const values = problem.lines.flatMap((line) => line.nats.map((value) => value / 1000));
  if (problem.threshold !== null) values.push(problem.threshold);
  let low = values.reduce((a, b) => Math.min(a, b), Infinity);
  let high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const room = Math.max(0.06 * (high - low), 0.05);
  [low, high] = [low - room, high + room];
  const longest = Math.max(1, ...problem.lines.map((line) => line.tokens));
  return {
    box, width, height, low, high, longest,
    x: (tokens) => box.left + ((box.right - box.left) * tokens) / longest,
    y: (value) => box.bottom - ((box.bottom - box.top) * (value - low)) / (high - low),
  };
}

function axes(at) {
  const { box } = at;
  const group = svg("g", { class: "axes" });
  const up = ticks(at.low, at.high, 5);
  for (const value of up.values) {
    const y = at.y(value);
    group.append(
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y, y2: y }),
      svg("text", { x: box.left - 6, y: y + 4, "text-anchor": "end" }, value.toFixed(up.digits)),
    );
  }
  const along = ticks(0, at.longest, at.width < 560 ? 4 : 8);
  for (const value of along.values.filter((tokens) => Number.isInteger(tokens))) {
    const x = at.x(value);
    const anchor = x > box.right - 14 ? "end" : "middle";
    group.append(
      svg("line", { class: "tick", x1: x, x2: x, y1: box.bottom, y2: box.bottom + 4 }),
      svg("text", { x, y: box.bottom + 17, "text-anchor": anchor }, count(value)),
    );
  }
  group.append(
    svg("line", { class: "base", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    svg("text", { class: "title", x: 0, y: 13 }, "window confidence, nats (higher is surer)"),
    svg("text", { class: "title", x: box.right, y: box.bottom + 33, "text-anchor": "end" }, "tokens"),
  );
  return group;
}

/** What stands at the end of a line: a cross where it was cut, a square where it was stopped, else a dot. */
function endMark(trace, x, y) {
  if (trace.end === "pruned") return svg("path", { class: "mark", d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8` });
  if (trace.end === "aborted") return svg("rect", { class: "mark", x: x - 3, y: y - 3, width: 6, height: 6 });
  return svg("circle", { class: "mark dot", cx: x, cy: y, r: 2.2 });
}

/** Where an audited trace would have been cut: a diamond on its line. */
function auditMark(trace, at) {
  const point = trace.at.findIndex((tokens) => tokens >= trace.cut);
  const [x, y] = [at.x(trace.cut), at.y(trace.nats[point] / 1000)];
  return svg("path", { class: "mark", d: `M${x} ${y - 5}l5 5l-5 5l-5 -5z` });
}

function traceLine(trace, at, many) {
  const points = trace.at.map((tokens, i) => `${at.x(tokens).toFixed(1)} ${at.y(trace.nats[i] / 1000).toFixed(1)}`);
  if (!points.length) return null;
  const [x, y] = points[points.length - 1].split(" ").map(Number);
  return svg(
    "g", { class: `trace ${kindOf(trace)}${many ? " many" : ""}`, "data-index": trace.index },
    svg("path", { class: "line", d: `M${points.join("L")}` }),
    endMark(trace, x, y),
    trace.cut === null ? null : auditMark(trace, at),
  );
}

/** The label stands at the left, before most lines begin. */
function thresholdLine(problem, at) {
  if (problem.threshold === null) return null;
  const y = at.y(problem.threshold);
  const room = at.box.bottom - y > 20;
  return svg(
    "g", { class: "threshold" },
    svg("line", { x1: at.box.left, x2: at.box.right, y1: y, y2: y }),
    svg("text", { x: at.box.left + 4, y: room ? y + 15 : y - 6 }, `threshold ${problem.threshold.toFixed(3)}`),
  );
}

/** Draws the chart into `frame`, anew when its width changes; `tell` is called with the trace that is pointed at. */
function drawChart(frame, problem, tell) {
  const order = KINDS.map(([kind]) => kind);
  const traces = [...problem.lines].sort((a, b) => order.indexOf(kindOf(a)) - order.indexOf(kindOf(b)));
  let drawnWidth = 0;
  function draw() {
    const width = Math.floor(frame.clientWidth);
    if (!width || width === drawnWidth) return;
    drawnWidth = width;
    const at = scales(problem, width);
    const picture = svg(
      "svg", { viewBox: `0 0 ${width} ${at.height}`, width, height: at.height, role: "img",
        "aria-label": `Window confidence of ${plural(traces.length, "trace")} over tokens; the table below has the numbers` },
      axes(at), traces.map((trace) => traceLine(trace, at, traces.length > 20)), thresholdLine(problem, at),
    );
    picture.addEventListener("pointermove", (event) => tell(nearest(traces, at, picture, event)));
    picture.addEventListener("pointerdown", (event) => tell(nearest(traces, at, picture, event)));
    picture.addEventListener("pointerleave", () => tell(null));
    frame.replaceChildren(picture);
  }
  new ResizeObserver(draw).observe(frame);
  draw();
}

/** The trace with a point within 24 pixels of the pointer, or null. */
function nearest(traces, at, picture, event) {
  const box = picture.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  let [best, least] = [null, 24 ** 2];
  for (const trace of traces) {
    trace.at.forEach((tokens, i) => {
      const distance = (at.x(tokens) - x) ** 2 + (at.y(trace.nats[i] / 1000) - y) ** 2;
      if (distance < least) [best, least] = [trace, distance];
    });
  }
  return best;
}
