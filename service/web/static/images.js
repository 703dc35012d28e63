/** Pictures on their way to a model. The service decodes them, so that what is shown is what the model sees. */

import { post } from "./api.js";
import { png } from "./dom.js";
import { alike } from "./store.js";

const decoded = new WeakMap(); // by image: promises by the shape wanted

/**
 * An image as this model sees it: the data URL of a PNG. One that the service itself sent in the model's shape goes
 * back byte for byte, so that what was measured is what is asked about.
 */
export async function fitted(image, model) {
  if (image.exact && alike(image.exact, model.input_shape)) return image.src;
  const known = decoded.get(image) ?? {};
  decoded.set(image, known);
  known[model.input_shape] ??= decode(image, model);
  return known[model.input_shape].catch((error) => {
    delete known[model.input_shape]; // the next one asks again
    throw error;
  });
}

async function decode(image, model) {
  const answer = await post("pictures", { model: model.name, images: [base64(image.src)], resize: true, invert: Boolean(image.invert) });
  return png(answer.images[0]);
}

const base64 = (src) => src.slice(src.indexOf(",") + 1);

/** What a request to this model holds. */
export async function payload(image, model) {
  return { images: [base64(await fitted(image, model))] };
}
