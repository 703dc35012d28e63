/** For who sees the page for the first time: a prediction, an attack on it, and a certificate that holds, in three clicks. */

import { post } from "./api.js";
import { el } from "./dom.js";
import { payload } from "./images.js";
import { named, now, pair, set, watch } from "./store.js";

const FAR = 1; // L2: breaks most images of an undefended model
const STEP = 0.05; // of the slider of budgets

export function path(place) {
  const go = (view, wanted) => {
    set("wanted", wanted);
    location.hash = view;
  };
  const attack = (model, eps) => go("attack", { model, attack: "pgd", norm: "l2", eps, run: true });
  const steps = [
    ["See a prediction", () => go("classify", {})],
    ["Break it", () => attack(pair()[0], FAR)],
    ["See a certificate hold", async () => attack(pair()[1], within(await radius(pair()[1])))],
  ];
  const buttons = steps.map(([words, work]) => el("li", {}, el("button", { type: "button", class: "quiet", onclick: work }, words)));
  watch("models", () => {
    const [one, two] = pair();
    place.replaceChildren(...(one && one !== two ? [el("ol", { "aria-label": "In three steps" }, buttons)] : []));
  });
}

/** The certified radius of the image in hand, 0 where there is none. */
async function radius(name) {
  const image = now("image");
  if (!image) return 0;
  const answer = await post("classify", { model: name, ...(await payload(image, named(name))) }).catch(() => null);
  return answer?.predictions[0].certified_radius ?? 0;
}

/** The largest budget of the slider inside a radius. */
const within = (size) => Math.max(STEP, Math.floor(size / STEP) * STEP).toFixed(2);
