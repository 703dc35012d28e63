/** Pictures on their way to a model: cropped to its proportions, scaled to its size, grey where it sees grey. */

function load(src) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("This is no picture that the browser can read."));
    image.src = src;
  });
}

/**
 * An image for a model with this input shape (C, H, W): the data URL of a PNG. One that the service itself sent in
 * that shape goes back byte for byte, so that what was measured is what is asked about.
 */
export async function fitted(image, [channels, height, width]) {
  if (image.exact && String(image.exact) === String([channels, height, width])) return image.src;
  const picture = await load(image.src);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillRect(0, 0, width, height); // what is transparent lies on black, as in the data sets
  const scale = Math.max(width / picture.width, height / picture.height);
  const [w, h] = [width / scale, height / scale];
  context.drawImage(picture, (picture.width - w) / 2, (picture.height - h) / 2, w, h, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  recolour(pixels.data, channels === 1, image.invert);
  context.putImageData(pixels, 0, 0);
  return canvas.toDataURL("image/png");
}

function recolour(data, grey, invert) {
  for (let i = 0; i < data.length; i += 4) {
    if (grey) data.fill((data[i] * 299 + data[i + 1] * 587 + data[i + 2] * 114) / 1000, i, i + 3);
    if (invert) for (let c = i; c < i + 3; c++) data[c] = 255 - data[c];
  }
}

/** What a request holds: base64, and leave to read a browser's RGBA as the model's colours. */
export async function payload(image, shape) {
  const src = await fitted(image, shape);
  return { images: [src.slice(src.indexOf(",") + 1)], resize: true };
}
