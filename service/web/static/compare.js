/** Two reports beside each other: every rate that both can have, and what became of it. */

import { NORMS, el, number, percent } from "./dom.js";

/** Statuses with their reports, the older first. */
export function comparison(before, after) {
  const [one, two] = [before.report, after.report];
  const names = [...new Set([...one.models, ...two.models].map((model) => model.name))];
  const find = (report, name) => report.models.find((model) => model.name === name);
  return el(
    "div",
    { tabindex: "-1" },
    el("h2", {}, `Report ${before.id.slice(0, 8)} and report ${after.id.slice(0, 8)}`),
    warnings(one, two).map((words) => el("p", { class: "status", "data-kind": "error" }, words)),
    names.map((name) => table(name, figures(find(one, name)), figures(find(two, name)))),
  );
}

/** Why the two might not compare: only the same images under the same attacks tell anything. */
function warnings(one, two) {
  const attacks = (report) => JSON.stringify(Object.fromEntries(report.attacks.map(({ name, params }) => [name, params]).sort()));
  return [
    one.evalset.sha256 !== two.evalset.sha256 || one.request.n !== two.request.n ? "Measured on different images: the differences mean little." : null,
    attacks(one) !== attacks(two) ? "Made with different attacks: a model looks more robust to weaker ones." : null,
  ].filter(Boolean);
}

function figures(model) {
  if (!model) return new Map();
  const asked = new Set(model.robustness.map(({ norm, eps }) => `${norm} ${eps}`));
  const nearest = model.perturbations.filter((one) => one.attack === null);
  return new Map([
    ["Clean accuracy", model.clean.value],
    ...model.robustness.filter((one) => one.attack === null).map(({ norm, eps, accuracy }) => [`Robust accuracy at ${NORMS[norm]} ${number(eps)}`, accuracy.value]),
    ...model.curves
      .filter((curve) => curve.kind !== "robust")
      .flatMap(({ kind, norm, points }) => points.filter(({ eps }) => asked.has(`${norm} ${eps}`)).map(({ eps, rate }) => [`${kind === "certified" ? "Certified" : "Smoothed, certified"} accuracy at ${NORMS[norm]} ${number(eps)}`, rate.value])),
    ...nearest.map(({ norm, own }) => [`Median smallest ${NORMS[norm]} distance`, own.median]),
  ]);
}

function table(name, one, two) {
  const rows = [...new Set([...one.keys(), ...two.keys()])].map((what) => {
    const distance = what.startsWith("Median");
    const show = distance ? number : percent;
    const [a, b] = [one.get(what), two.get(what)];
    return el("tr", {}, el("th", { scope: "row" }, what), el("td", {}, show(a)), el("td", {}, show(b)), change(a, b, distance));
  });
  const heads = ["Figure", "Older", "Newer", "Change"].map((head) => el("th", { scope: "col" }, head));
  return el("div", { class: "scroll" }, el("table", { class: "figures" }, el("caption", {}, name), el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows)));
}

function change(a, b, distance) {
  if (a == null || b == null) return el("td", {}, "–");
  if (a === b) return el("td", {}, "same");
  const size = Math.abs(b - a);
  const words = distance ? number(size) : `${(100 * size).toFixed(1)} points`;
  return el("td", { "data-kind": b > a ? "held" : "fooled" }, `${b > a ? "up" : "down"} ${words}`);
}
