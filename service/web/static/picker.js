/** Where the image comes from: the evaluation set, a drawing, a file, or a generator. */

import { share } from "./address.js";
import { call, get, post } from "./api.js";
import { el, field, latest, options, picture, png, statusLine } from "./dom.js";
import { fitted } from "./images.js";
import { modelSelect } from "./modelselect.js";
import { pad } from "./pad.js";
import { alike, classifiers, generators, named, now, set, watch, words } from "./store.js";

const SAMPLES = 24;

/** Fills the section; the views read `image` from the store and tell it the `shape` they want. */
export function picker(section) {
  const line = statusLine();
  const tabs = {
    Samples: samples(line),
    Draw: drawing(line),
    Upload: upload(line),
    Generated: generated(line),
  };
  watch("image", (image) => share({ set: image?.place?.set, image: image?.place?.image })); // only a sample can be found again
  section.append(tabbed(tabs), line, preview());
}

/** Tabs as the ARIA practices have them: one stop for Tab, arrows between them. */
function tabbed(panels) {
  const names = Object.keys(panels);
  const tabs = names.map((name, i) =>
    el("button", { type: "button", role: "tab", id: `tab-${i}`, "aria-controls": `panel-${i}`, onclick: () => show(i) }, name),
  );
  const bodies = names.map((name, i) =>
    el("div", { role: "tabpanel", id: `panel-${i}`, "aria-labelledby": `tab-${i}` }, panels[name]),
  );
  function show(chosen) {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", i === chosen);
      tab.tabIndex = i === chosen ? 0 : -1;
      bodies[i].hidden = i !== chosen;
    });
  }
  function keys(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length;
    show(next);
    tabs[next].focus();
  }
  show(0);
  return el("div", {}, el("div", { role: "tablist", "aria-label": "Source of the image", onkeydown: keys }, tabs), bodies);
}

function preview() {
  const figure = el("figure", { class: "preview" });
  async function show() {
    const [image, shape] = [now("image"), now("shape")];
    if (!image || !shape) return figure.replaceChildren();
    const src = await fitted(image, taking(shape));
    if (image !== now("image")) return;
    figure.replaceChildren(picture(src, image.words), el("figcaption", {}, `${image.words}, as the model sees it: ${words(shape)}`));
  }
  for (const what of ["image", "shape"]) watch(what, () => show().catch(() => {}));
  return figure;
}

/** A model that takes images of this shape: all of them see the same. */
const taking = (shape) => classifiers().find((model) => alike(model.input_shape, shape));

function samples(line) {
  const select = el("select", { onchange: () => show() });
  const strip = el("div", { class: "strip", role: "group", "aria-label": "Images of the evaluation set" });
  const task = latest(line, "Fetching images …");
  let next = null; // the number of the sample to choose, once they are there
  const choose = (button, image) => {
    strip.querySelectorAll("[aria-pressed=true]").forEach((other) => other.setAttribute("aria-pressed", "false"));
    button.setAttribute("aria-pressed", "true");
    set("image", image);
  };
  const show = () =>
    task(async (signal) => {
      const found = await get(`evalsets/${encodeURIComponent(select.value)}?samples=${SAMPLES}`, { signal });
      const buttons = found.samples.map((sample, i) => {
        const told = `${found.classes[sample.label]} (number ${i} of ${found.name})`;
        const image = { src: png(sample.image), exact: found.image_shape, words: told, place: { set: found.name, image: i } };
        return el("button", { type: "button", class: "thumb", title: told, "aria-pressed": "false", onclick: (event) => choose(event.currentTarget, image) }, picture(image.src, told));
      });
      strip.replaceChildren(...buttons);
      const first = next ?? (now("image") ? null : 0);
      next = null;
      if (first !== null) buttons[first]?.click();
    });
  const body = el("div", {}, field("Set", select), strip);
  watch("evalsets", (sets) => {
    if (!sets.length) return body.replaceChildren(el("p", { class: "hint" }, "This service has no evaluation images to show. Draw, upload or generate one."));
    const before = select.value;
    options(select, sets.map((set) => set.name), before);
    if (select.value !== before) show();
  });
  const find = (wanted) => {
    const known = (now("evalsets") ?? []).some((one) => one.name === wanted.set);
    if (!known || wanted.image === undefined) return;
    next = Number(wanted.image);
    if (select.value !== wanted.set) select.value = wanted.set;
    show();
  };
  watch("wanted", find);
  watch("evalsets", () => now("wanted") && find(now("wanted")));
  watch("shape", (shape) => {
    const sets = now("evalsets") ?? [];
    const fit = (set) => set && alike(set.image_shape, shape);
    if (fit(sets.find((set) => set.name === select.value))) return;
    const other = sets.find(fit);
    if (other) {
      select.value = other.name;
      show();
    }
  });
  return body;
}

function drawing(line) {
  return pad((src) => set("image", src && { src, words: "Your drawing" }), line.say);
}

function upload(line) {
  const invert = el("input", { type: "checkbox", onchange: () => use() });
  const file = el("input", { type: "file", accept: "image/png,image/jpeg,image/webp", onchange: () => use() });
  async function use() {
    const chosen = file.files[0];
    if (!chosen) return;
    line.say("");
    const image = { src: await dataUrl(chosen), invert: invert.checked, words: chosen.name };
    try {
      if (now("shape")) await fitted(image, taking(now("shape")));
      set("image", image);
    } catch (error) {
      line.say(error.message, "error");
    }
  }
  return el(
    "div",
    {},
    field("Picture", file, "It is scaled to what the model takes; what is transparent lies on black. It goes to this service alone."),
    el("label", { class: "tick" }, invert, "Invert: the data sets are light on black"),
  );
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function generated(line) {
  const task = latest(line, "Generating …");
  const choice = modelSelect("Generator", generators, () => generators()[0]?.name, () => {});
  const draw = () =>
    task(async (signal) => {
      const made = await post("generate", { model: choice.select.value, n: 1 }, { signal });
      const told = `Generated by ${made.model}, seed ${made.seed}`;
      set("image", { src: png(made.images[0]), exact: named(made.model).output_shape, words: told });
    });
  return el(
    "div",
    {},
    choice.element,
    el("p", { class: "row" }, el("button", { type: "button", onclick: draw }, "Draw one"), el("a", { href: "#generate" }, "Walk its latent space")),
  );
}

/** Every evaluation set there is; none where the service does not tell. */
export async function evaluationSets() {
  const response = await call("GET", "evalsets?samples=0").catch((error) => {
    if (error.status === 404 || error.status === 405) return null;
    throw error;
  });
  return response ? (await response.json()).evalsets : [];
}
