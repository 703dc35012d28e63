/** What the views share: the models, the evaluation sets, the image in hand, the shape it is wanted in, and what a link asked for. */

const values = { models: [], evalsets: null, image: null, shape: null, wanted: null };
const watchers = {};

export const now = (what) => values[what];

export function set(what, value) {
  values[what] = value;
  for (const watcher of watchers[what] ?? []) watcher(value);
}

/** What a link asked for, once: nobody else gets it. */
export function take() {
  const wanted = values.wanted ?? {};
  values.wanted = null;
  return wanted;
}

/** Called at each change, and at once if there is something already. */
export function watch(what, watcher) {
  (watchers[what] ??= []).push(watcher);
  if (values[what] !== null) watcher(values[what]);
}

export const classifiers = () => values.models.filter((model) => model.kind === "classifier");
/** Those with the fewest latents first: they are the easiest to walk in. */
export const generators = () => values.models.filter((model) => model.kind === "generator").sort((a, b) => a.latent_dim - b.latent_dim);
export const named = (name) => values.models.find((model) => model.name === name);
export const alike = (a, b) => String(a) === String(b);
export const words = ([channels, height, width]) => `${width} × ${height}, ${channels === 1 ? "grey" : "colour"}`;

const accuracy = (model) => model.metrics.accuracy?.value ?? 0;
const evaluated = (model) => !values.evalsets?.length || values.evalsets.some((set) => set.name === model.dataset);

/** The best undefended model and the best defended one of the same data, where there are such: what is worth comparing. */
export function pair() {
  const all = classifiers().sort((a, b) => accuracy(b) - accuracy(a));
  const defended = (one) => all.find((two) => two.dataset === one.dataset && two.family === "lipschitz");
  const first = all.find((one) => one.family === "standard" && evaluated(one) && defended(one)) ?? all[0];
  if (!first) return [];
  const second = defended(first) ?? all.find((two) => two !== first && alike(two.input_shape, first.input_shape));
  return [first.name, (second ?? first).name];
}
