// Pictures on canvases: one canvas pixel a pixel, magnified by the style sheet.

export const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A level as 0..255, as the library shows it.
export function shown(value, levels) {
  return levels <= 256 ? Math.ceil((value * 255) / (levels - 1)) : Math.floor((value * 256) / levels);
}

// Level of a brightness 0..255.
export const levelOf = (bright, levels) => Math.min(levels - 1, Math.floor((bright * levels) / 256));

export class Picture {
  constructor([channels, height, width], levels, values) {
    Object.assign(this, { channels, height, width, levels });
    this.values = values ?? new Uint16Array(channels * height * width);
  }
  static from(nested, levels) {
    const shape = [nested.length, nested[0].length, nested[0][0].length];
    return new Picture(shape, levels, Uint16Array.from(nested.flat(2)));
  }
  at(channel, row, column) { return this.values[(channel * this.height + row) * this.width + column]; }
  set(channel, row, column, value) { this.values[(channel * this.height + row) * this.width + column] = value; }
  copy() { return new Picture([this.channels, this.height, this.width], this.levels, this.values.slice()); }
  nested() {
    return Array.from({ length: this.channels }, (_, c) => Array.from({ length: this.height }, (_, i) =>
      Array.from({ length: this.width }, (_, j) => this.at(c, i, j))));
  }
}

// Colours of all pixels: colour(row, column) is [red, green, blue] or [red, green, blue, alpha].
export function paint(canvas, height, width, colour) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0, at = 0; i < height; i++) {
    for (let j = 0; j < width; j++, at += 4) {
      const [red, green, blue, alpha = 255] = colour(i, j);
      image.data[at] = red; image.data[at + 1] = green; image.data[at + 2] = blue; image.data[at + 3] = alpha;
    }
  }
  context.putImageData(image, 0, 0);
}

// `there`: which symbols have been drawn (undefined: all); others let the background through.
export function show(canvas, picture, there) {
  const plane = picture.height * picture.width;
  paint(canvas, picture.height, picture.width, (i, j) => {
    const at = i * picture.width + j;
    const one = (c) => (there && !there[c * plane + at] ? 0 : shown(picture.values[c * plane + at], picture.levels));
    if (there && !there[at]) return [0, 0, 0, 0];
    return picture.channels === 3 ? [one(0), one(1), one(2)] : [one(0), one(0), one(0)];
  });
}

// Dark to light through purple and orange, for amounts 0..1.
const HEAT = [[13, 8, 35], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
export function heat(share) {
  const place = Math.min(Math.max(share, 0), 1) * (HEAT.length - 1), low = Math.min(Math.floor(place), HEAT.length - 2);
  return HEAT[low].map((part, k) => part + (HEAT[low + 1][k] - part) * (place - low));
}
// Blue for less, red for more than expected, pale in the middle; -1..1.
export function twoSided(share) {
  const s = Math.min(Math.max(share, -1), 1), end = s < 0 ? [44, 95, 209] : [190, 45, 30];
  return end.map((part) => 240 + (part - 240) * Math.abs(s) ** 0.8);
}

export function rgb(css) {
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  context.fillStyle = css;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// All pictures on one sheet, each pixel a square of `zoom`.
export function sheet(pictures, zoom = 8, gap = 1) {
  const across = Math.ceil(Math.sqrt(pictures.length)), down = Math.ceil(pictures.length / across);
  const { height, width } = pictures[0];
  const canvas = document.createElement("canvas");
  canvas.width = (across * (width + gap) - gap) * zoom;
  canvas.height = (down * (height + gap) - gap) * zoom;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.fillStyle = "#808080";
  context.fillRect(0, 0, canvas.width, canvas.height);
  pictures.forEach((picture, index) => {
    const one = document.createElement("canvas");
    show(one, picture);
    context.drawImage(one, (index % across) * (width + gap) * zoom, Math.floor(index / across) * (height + gap) * zoom, width * zoom, height * zoom);
  });
  return new Promise((take) => canvas.toBlob(take, "image/png"));
}
