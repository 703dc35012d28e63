/** The address: which view, and what a link shares of it, as `#attack?model=…&norm=l2&eps=1`. */

const SHARED = {
  classify: ["set", "image", "first", "second"],
  attack: ["set", "image", "model", "attack", "norm", "eps"],
  generate: [],
  reports: ["report", "compare"],
  models: [],
};
export const VIEWS = Object.keys(SHARED);
const shared = new Map();

/** The view that the address names, "" for none. */
export const viewed = () => location.hash.slice(1).split("?")[0];

/** What the address asks for, by name. */
export const asked = () => Object.fromEntries(new URLSearchParams(location.hash.split("?")[1] ?? ""));

/** Keep what a view shows; an empty value is forgotten. The address says it, without a new entry in the history. */
export function share(values) {
  for (const [name, value] of Object.entries(values)) {
    if (value == null || value === "") shared.delete(name);
    else shared.set(name, String(value));
  }
  tell();
}

/** Write what the view in the address shares. */
export function tell() {
  const view = viewed() || VIEWS[0];
  const pairs = (SHARED[view] ?? []).filter((name) => shared.has(name)).map((name) => [name, shared.get(name)]);
  if (pairs.length) history.replaceState(history.state, "", `#${view}?${new URLSearchParams(pairs)}`);
}
