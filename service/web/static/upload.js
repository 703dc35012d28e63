/** What the two forms that bring files share. */

import { call } from "./api.js";
import { el } from "./dom.js";

export const nameInput = () => el("input", { type: "text", required: true, pattern: "[a-z0-9][a-z0-9._\\-]{0,63}", maxlength: 64, autocomplete: "off", spellcheck: "false" });
export const textInput = () => el("input", { type: "text", autocomplete: "off" });

/** Whether other keys may use what is brought; `value()` is null where the service is to decide. */
export function sharing() {
  const box = el("input", { type: "checkbox" });
  return { tick: el("label", { class: "tick" }, box, "every key may use it"), value: () => box.checked || null };
}

/** Words with commas between them, or numbers; null where there are none. */
export const list = (input) => (input.value.trim() ? input.value.split(",").map((one) => one.trim()) : null);
export const numbers = (input) => (input.value.trim() ? input.value.split(/[\s,;]+/).filter(Boolean).map(Number) : null);

/** A file and what is said of it; what is null is left out. The service's answer. */
export async function send(path, file, settings, signal) {
  const body = new FormData();
  body.append("settings", JSON.stringify(Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== null))));
  body.append("file", file);
  const response = await call("POST", path, { body, signal }).catch((error) => {
    if (error.status === 404 || error.status === 405) throw new Error("This service takes no uploads.");
    throw error;
  });
  return response.json();
}
