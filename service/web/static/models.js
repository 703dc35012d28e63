/** The models there are, and a way in for one's own. */

import { call, get } from "./api.js";
import { el, facts, field, latest, number, options, percent, statusLine } from "./dom.js";
import { evaluationSets } from "./sets.js";
import { watch, words } from "./store.js";
import { list, nameInput, numbers, send, sharing, textInput } from "./upload.js";

const LAYOUTS = [["", "guess it from the graph"], ["nchw", "channels first (NCHW)"], ["nhwc", "channels last (NHWC)"], ["flat", "flat, C·H·W"], ["flat-nhwc", "flat, H·W·C"]];
const RANGES = [["", "guess it"], "0..1", "0..255", "-1..1"];
const LISTED = 20; // classes
const OUTPUTS = [["", "guess it"], "logits", "probabilities", "log-probabilities", "sigmoid"];

export function models(section, reload) {
  const line = statusLine();
  const body = el("tbody");
  const task = latest(line, "Deleting …");
  const forget = (name) =>
    confirm(`Delete the model ${name}?`) &&
    task(async (signal) => {
      await call("DELETE", `models/${encodeURIComponent(name)}`, { signal });
      await reload();
    });
  watch("models", (all) => body.replaceChildren(...all.map((model) => row(model, forget))));
  const heads = ["Name", "Kind", "Family", "Data set", "Image", "Accuracy", ""].map((head) => el("th", { scope: "col" }, head || el("span", { class: "unseen" }, "Actions")));
  section.append(
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All models" }, el("table", { class: "catalogue" }, el("thead", {}, el("tr", {}, heads)), body)),
    line,
    el("h2", {}, "Bring your own"),
    el("p", { class: "hint" }, "An ONNX classifier of images; one that keeps weights in a second file comes with it in a zip. It is checked and run in a process of its own; what you leave open is guessed from the graph, and every guess is shown."),
    uploadForm(reload),
    el("h2", {}, "Evaluation sets"),
    ...evaluationSets(reload),
  );
}

function row(model, forget) {
  const { accuracy } = model.metrics;
  const remove = model.adoption ? el("button", { type: "button", "aria-label": `Delete ${model.name}`, onclick: () => forget(model.name) }, "Delete") : null;
  const link = el("a", { href: `models/${encodeURIComponent(model.name)}` }, model.name);
  const cells = [model.kind, model.family, model.dataset, words(model.input_shape ?? model.output_shape), accuracy ? `${percent(accuracy.value)} of ${accuracy.n.toLocaleString("en")}` : "–", remove];
  return el("tr", {}, el("th", { scope: "row" }, link), cells.map((cell) => el("td", {}, cell)));
}

function uploadForm(reload) {
  const line = statusLine();
  const taken = el("div");
  const task = latest(line, "Checking the file, and its gradients …");
  const file = el("input", { type: "file", accept: ".onnx,.zip", required: true });
  const name = nameInput();
  const classes = textInput();
  const [layout, range, output] = [LAYOUTS, RANGES, OUTPUTS].map((entries) => {
    const select = el("select");
    options(select, entries, "");
    return select;
  });
  const shared = sharing();
  const [mean, std] = [0, 1].map(() => el("input", { type: "text", inputmode: "decimal", autocomplete: "off" }));
  const settings = () => ({
    name: name.value,
    classes: list(classes),
    layout: layout.value || null,
    pixel_range: range.value || null,
    output: output.value || null,
    mean: numbers(mean),
    std: numbers(std),
    shared: shared.value(),
  });
  function submit(event) {
    event.preventDefault();
    taken.replaceChildren();
    task(async (signal) => {
      const answer = await send("models", file.files[0], settings(), signal);
      taken.replaceChildren(...told(answer.state ? await opened(answer, line, signal) : answer));
      await reload();
    });
  }
  return el(
    "form",
    { onsubmit: submit, "aria-label": "Upload a model" },
    field("ONNX file", file),
    el("div", { class: "form" }, field("Name", name, "a-z, 0-9, dot, dash"), field("Class names", classes, "with commas, in the order of the outputs")),
    el(
      "details",
      {},
      el("summary", {}, "How it sees images"),
      el("div", { class: "form" }, field("Layout", layout), field("Black to white", range), field("Mean", mean, "per channel, subtracted"), field("Standard deviation", std, "per channel, divided by"), field("Its outputs are", output)),
    ),
    el("p", { class: "row" }, el("button", { class: "main" }, "Upload"), shared.tick, line),
    taken,
  );
}

const STAGES = { waiting: "Waiting for other uploads", fetching: "Fetching the file", converting: "Reading the file", verifying: "Checking its gradients", storing: "Keeping it" };

/** Waits for a model that takes longer to open than the answer to its upload waits. */
async function opened(model, line, signal) {
  while (model.state === "opening") {
    line.say(`${STAGES[model.stage]} … ${percent(model.progress)}`, "busy");
    await new Promise((resolve) => setTimeout(resolve, 500));
    model = await get(`models/${encodeURIComponent(model.name)}`, { signal });
  }
  if (model.state === "failed") throw new Error(`${model.error.message[0].toUpperCase()}${model.error.message.slice(1)}.`);
  return { manifest: model, certificate: model.certificate };
}

/** Names with commas; of many the first. */
function several(names) {
  return names.length > LISTED ? `${names.slice(0, LISTED).join(", ")} and ${names.length - LISTED} more` : names.join(", ");
}

/** What became of an upload. */
function told({ manifest, certificate }) {
  const guesses = Object.entries(manifest.adoption?.choices ?? {}).map(([what, choice]) =>
    el("tr", {}, el("th", { scope: "row" }, what), el("td", {}, choice.value), el("td", {}, choice.given ? "you said so" : "not said"), el("td", {}, choice.reason)));
  const proved = certificate.lipschitz == null ? `none: ${certificate.reason}` : `Lipschitz constant ${number(certificate.lipschitz)}${certificate.looseness ? `, at most ${number(certificate.looseness)} times too large` : ""}`;
  return [
    el("p", { role: "status" }, el("strong", {}, `${manifest.name} is taken in.`)),
    facts([["Image", words(manifest.input_shape)], ["Classes", several(manifest.classes)], ["Gradients", manifest.gradients], ["Certificate", proved]]),
    el("div", { class: "scroll" }, el("table", { class: "guesses" }, el("caption", {}, "How it was read"), el("thead", {}, el("tr", {}, ["Question", "Value", "Source", "Why"].map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, guesses))),
  ];
}
