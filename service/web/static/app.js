/** The page: one view at a time, chosen by the address; a dialog where the service wants a key. */

import { VIEWS, asked, tell, viewed } from "./address.js";
import { get, keepKey, key, whenUnauthorized } from "./api.js";
import { latest } from "./dom.js";
import { path } from "./path.js";
import { evaluationSets, picker } from "./picker.js";
import { set } from "./store.js";

const WITH_IMAGE = ["classify", "attack"];
const byId = (id) => document.getElementById(id);

const line = byId("status");
line.say = (words, kind = "") => {
  line.textContent = words;
  line.dataset.kind = kind;
};

async function load() {
  const [{ models: found }, sets] = await Promise.all([get("models"), evaluationSets()]);
  set("evalsets", sets);
  set("models", found);
}

function askForKey(reason) {
  const [dialog, input] = [byId("ask"), byId("ask-key")];
  byId("ask-reason").textContent = reason;
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        if (dialog.returnValue) keepKey(dialog.returnValue === "use" ? input.value.trim() : null);
        showKey();
        resolve(dialog.returnValue === "use" ? key() : null);
      },
      { once: true },
    );
  });
}

const showKey = () => (byId("key").textContent = key() ? "Access key: set" : "Access key");

/** What to do when a view is entered, by name; its module is fetched when somebody first looks at it. */
const entered = {};

async function enter(name) {
  entered[name] ??= import(`./${name}.js`).then((module) => module[name](byId(name), load) ?? (() => {}));
  (await entered[name])();
}

async function show(event) {
  if (event && !VIEWS.includes(viewed())) return; // the link that skips to the content
  const chosen = VIEWS.includes(viewed()) ? viewed() : VIEWS[0];
  if (Object.keys(asked()).length) set("wanted", asked());
  for (const name of VIEWS) byId(name).hidden = name !== chosen;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const heading = byId(`${chosen}-title`);
  document.title = `${heading.textContent} · Gauntlet`;
  if (WITH_IMAGE.includes(chosen)) heading.after(byId("picker"));
  byId("picker").hidden = !WITH_IMAGE.includes(chosen);
  if (event) heading.focus(); // only when somebody moved: not as the page opens
  await enter(chosen);
  tell();
}

const start = () => latest(line, "Asking for the models …")(load);

picker(byId("picker"));
path(byId("path"));
whenUnauthorized(askForKey);
byId("key").addEventListener("click", async () => {
  if (await askForKey("Which key shall the calls of this page carry?")) start();
});
window.addEventListener("hashchange", show);
showKey();
show();
start();
