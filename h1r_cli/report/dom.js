"use strict";

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; children are elements or texts, and a text is never read as markup. */
function el(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

const count = (number) => Math.round(number).toLocaleString("en");
const percent = (share) => `${(100 * share).toFixed(0)} %`;
const nats = (thousandths) => (thousandths / 1000).toFixed(2);
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

const VERDICT = new Map([[true, "right"], [false, "wrong"], [null, "not judged"]]);

/** The class of a trace's line and the word for it. */
function kindOf(trace) {
  if (trace.end === "pruned") return "cut";
  return trace.correct === null ? "unjudged" : VERDICT.get(trace.correct);
}

/** "right" or "wrong" as a badge with a sign of its own, so that it does not hang on the colour; nothing if neither. */
function badge(correct) {
  if (correct === null) return null;
  return el("span", { class: `badge ${VERDICT.get(correct)}` }, `${correct ? "✓" : "✗"} ${VERDICT.get(correct)}`);
}

/** An answer, or that there is none. */
function answerOf(answer) {
  return answer === null ? el("em", {}, "no answer") : el("b", { class: "answer" }, answer);
}
