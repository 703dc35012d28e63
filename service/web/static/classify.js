/** Two models side by side: what they say of the image, and how far that is proved. */

import { share } from "./address.js";
import { post } from "./api.js";
import { el, facts, field, latest, number, options, percent, settled, statusLine } from "./dom.js";
import { payload } from "./images.js";
import { modelSelect } from "./modelselect.js";
import { classifiers, named, now, pair, set, watch } from "./store.js";

const SHOWN = 5; // classes
const GREY_LEVEL = 1 / 255;

export function classify(section) {
  const sides = ["First model", "Second model"].map((words, place) => side(words, place));
  const sigma = el("select");
  options(sigma, ["0.12", "0.25", "0.5"], "0.25");
  const smooth = () => sides.forEach((one) => one.smooth(Number(sigma.value)));
  const bound = () => sides.forEach((one) => one.bound());
  section.append(
    el(
      "div",
      { class: "beside" },
      el("div", { class: "sides" }, sides.map((one) => one.element)),
      el(
        "details",
        {},
        el("summary", {}, "Certify any model by randomized smoothing"),
        el("p", { class: "hint" }, "Certifies what a model says most often when Gaussian noise is added to the image, which is not always what it says of the image itself. Takes 10,100 passes through each network: seconds."),
        el("div", { class: "row" }, field("Noise σ", sigma), el("button", { type: "button", onclick: smooth }, "Certify both")),
      ),
      el(
        "details",
        {},
        el("summary", {}, "Prove how far each pixel may change"),
        el("p", { class: "hint" }, "The largest L∞ radius that bounds of the network prove for this image, and the nearest image of another class that an attack finds: any model, yours too. Takes ten seconds for each."),
        el("p", { class: "row" }, el("button", { type: "button", onclick: bound }, "Prove both")),
      ),
    ),
  );
  return () => set("shape", sides[0].shape());
}

function side(title, place) {
  const line = statusLine();
  const answer = el("div");
  const smoothed = el("p", { role: "status" });
  const bounded = el("p", { role: "status" });
  const name = place === 0 ? "first" : "second"; // in the address
  const wanted = () => named(now("wanted")?.[name])?.name;
  const choice = modelSelect(title, classifiers, () => wanted() ?? pair()[place], () => changed());
  const asked = latest(line, "Asking …");
  const certified = latest(line, "Adding noise, 10,100 times …");
  const proved = latest(line, "Attacking, then proving …");
  const model = () => named(choice.select.value);
  const ask = async (more, signal) => {
    const json = { model: model().name, ...(await payload(now("image"), model())), ...more };
    return (await post("classify", json, { signal })).predictions[0];
  };
  const refresh = settled(() => {
    smoothed.textContent = bounded.textContent = "";
    answer.ariaBusy = Boolean(model() && now("image")); // what it shows is of another image, until there is a new one
    if (answer.ariaBusy !== "true") return answer.replaceChildren(el("p", { class: "hint" }, "Choose an image."));
    asked(async (signal) => {
      answer.replaceChildren(...told(await ask({}, signal), model()));
      answer.ariaBusy = false;
    });
  }, 50);
  function changed() {
    if (place === 0 && model()) set("shape", model().input_shape);
    share({ [name]: choice.select.value });
    refresh();
  }
  watch("image", refresh);
  watch("wanted", () => {
    if (!wanted() || wanted() === choice.select.value) return;
    choice.select.value = wanted();
    changed();
  });
  return {
    element: el("article", { class: "card", "aria-label": title }, choice.element, line, answer, smoothed, bounded),
    shape: () => model()?.input_shape ?? null,
    smooth: (sigma) => {
      if (!model() || !now("image")) return;
      certified(async (signal) => (smoothed.textContent = smoothing(await ask({ smoothing: { sigma } }, signal))));
    },
    bound: () => {
      if (!model() || !now("image")) return;
      proved(async (signal) => {
        const json = { model: model().name, norm: "linf", radius: "largest", ...(await payload(now("image"), model())) };
        const [result] = (await post("certify", json, { signal })).results;
        bounded.textContent = bounding(result);
      });
    },
  };
}

/** A prediction as elements. */
function told(prediction, model) {
  if (prediction.error) return [el("p", { class: "answer", "aria-live": "polite" }, `No answer: ${prediction.error}.`)];
  const best = prediction.probabilities
    .map((probability, label) => ({ probability, name: model.classes[label] }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, SHOWN);
  const certificate = prediction.certificate;
  const [kind, words] = certificateWords(certificate);
  return [
    el("p", { class: "answer", "aria-live": "polite" }, el("strong", {}, prediction.class_name), ` ${percent(prediction.probability)}`),
    el("p", { class: "certificate", "data-kind": kind }, words),
    el("ul", { class: "bars" }, best.map(({ probability, name }) =>
      el("li", {}, el("span", {}, name), el("meter", { min: 0, max: 1, value: probability, "aria-label": name }), el("span", {}, percent(probability))))),
    facts([["Margin", number(prediction.margin)], ...linf(prediction.certified_linf_radius), ...(certificate ? [["Proved Lipschitz constant", number(certificate.lipschitz)]] : [])]),
  ];
}

function linf(radius) {
  return radius == null ? [] : [["Certified in L∞, by intervals", number(radius)]];
}

function certificateWords(certificate) {
  if (!certificate) return ["none", "No certificate: nothing could be proved of this model."];
  const radius = number(certificate.radius);
  if (certificate.abstained) return ["none", "Nothing proved for this image: the margin is within rounding."];
  if (certificate.radius < GREY_LEVEL) return ["weak", `Certified to L2 ${radius} only: less than one grey level of one pixel. True, and of no use.`];
  return ["strong", `Certified to L2 ${radius}: no smaller change of the pixels changes this answer.`];
}

function smoothing({ certificate }) {
  if (certificate.abstained) return `Smoothed with σ ${certificate.sigma}: abstains, no class has a clear majority.`;
  return `Smoothed with σ ${certificate.sigma}: ${certificate.class_name}, certified to L2 ${number(certificate.radius)} (confidence ${percent(1 - certificate.alpha)}).`;
}

/** A verdict on the largest radius, in words. */
function bounding({ status, radius, method, distance, reason }) {
  const broken = distance == null ? "no attack found an image of another class" : `an attack found an image of another class at ${number(distance)}`;
  if (status === "falsified") return "Nothing to prove: the image itself has another class.";
  if (radius > 0) return `Certified to L∞ ${number(radius)} (${method}): no smaller change of each pixel changes this answer; ${broken}.`;
  return `Nothing could be proved in L∞${reason ? `: ${reason}` : " in this time"}; ${broken}.`;
}
