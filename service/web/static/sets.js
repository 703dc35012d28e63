/** The evaluation sets there are, and a way in for one's own images. */

import { call } from "./api.js";
import { el, field, latest, statusLine } from "./dom.js";
import { watch, words } from "./store.js";
import { list, nameInput, numbers, send, sharing, textInput } from "./upload.js";

export function evaluationSets(reload) {
  const line = statusLine();
  const body = el("tbody");
  const task = latest(line, "Deleting …");
  const forget = (name) =>
    confirm(`Delete the evaluation set ${name}?`) &&
    task(async (signal) => {
      await call("DELETE", `evalsets/${encodeURIComponent(name)}`, { signal });
      await reload();
    });
  watch("evalsets", (all) => body.replaceChildren(...all.map((set) => row(set, forget))));
  const heads = ["Name", "Images", "Image", "Classes", "Licence", ""].map((head) => el("th", { scope: "col" }, head || el("span", { class: "unseen" }, "Actions")));
  return [
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All evaluation sets" }, el("table", { class: "catalogue" }, el("thead", {}, el("tr", {}, heads)), body)),
    line,
    form(reload),
  ];
}

function row(set, forget) {
  const remove = set.uploaded ? el("button", { type: "button", "aria-label": `Delete ${set.name}`, onclick: () => forget(set.name) }, "Delete") : null;
  const cells = [set.n.toLocaleString("en"), words(set.image_shape), String(set.classes.length), set.licence, remove];
  return el("tr", {}, el("th", { scope: "row" }, set.name), cells.map((cell) => el("td", {}, cell)));
}

function form(reload) {
  const line = statusLine();
  const taken = el("p", { role: "status" });
  const task = latest(line, "Reading the images …");
  const file = el("input", { type: "file", accept: ".npz,.zip", required: true });
  const name = nameInput();
  const [classes, licence, shape] = [0, 1, 2].map(textInput);
  const shared = sharing();
  function submit(event) {
    event.preventDefault();
    taken.replaceChildren();
    const settings = { name: name.value, classes: list(classes), licence: licence.value.trim() || null, input_shape: numbers(shape), shared: shared.value() };
    task(async (signal) => {
      const set = await send("evalsets", file.files[0], settings, signal);
      taken.replaceChildren(el("strong", {}, `${set.name} is taken in: `), `${set.n.toLocaleString("en")} images of ${set.classes.length} classes. Reports can name it.`);
      await reload();
    });
  }
  return el(
    "form",
    { onsubmit: submit, "aria-label": "Upload an evaluation set" },
    field("Images file", file, "an .npz with images and labels, or a .zip with a folder of pictures for each class"),
    el("div", { class: "form" }, field("Name", name, "a-z, 0-9, dot, dash"), field("Class names", classes, "with commas; of a zip, its folders")),
    el("details", {}, el("summary", {}, "More about them"), el("div", { class: "form" }, field("Licence", licence), field("Channels, height, width", shape, "1, 28, 28: pictures of a zip are converted to it"))),
    el("p", { class: "row" }, el("button", { class: "main" }, "Upload the images"), shared.tick, line),
    taken,
  );
}
