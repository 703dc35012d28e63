/** A list of models, grouped by data set, that stays true when models come and go. */

import { el, field } from "./dom.js";
import { watch } from "./store.js";

/** `list()` gives the models, `first()` the name chosen at first; `onchange` hears of every change of the choice. */
export function modelSelect(words, list, first, onchange) {
  const select = el("select", { onchange });
  watch("models", () => {
    const before = select.value;
    const models = list();
    const sets = [...new Set(models.map((model) => model.dataset))];
    select.replaceChildren(
      ...sets.map((set) =>
        el(
          "optgroup",
          { label: set },
          models.filter((model) => model.dataset === set).map((model) => el("option", { value: model.name }, model.name)),
        ),
      ),
    );
    const wanted = models.some((model) => model.name === before) ? before : first();
    if (wanted) select.value = wanted;
    if (select.value !== before) queueMicrotask(onchange); // not before whoever asked for this list is set up
  });
  return { select, element: field(words, select) };
}
