// Compress: the archive's size beside others', its bits, and the picture that comes back.

import { blobOf, floatsIn, levelsIn, stream } from "./api.js";
import { board, imageWithClass } from "./board.js";
import { Picture, heat, paint, show } from "./pixels.js";
import { Latest, complain, digits, element, say } from "./state.js";

const latest = new Latest();
let archive = null;

element("compress-go").addEventListener("click", async () => {
  const signal = latest.begin(), picture = board.picture.copy();
  try {
    await stream("/api/compress", imageWithClass(), (event) => {
      if (event.event === "stage") say(`${event.stage}…`);
      if (event.event === "progress") say(`${event.what} ${event.done} of ${event.of}…`);
      if (event.event === "size") result(event, picture);
    }, signal);
  } catch (error) { complain(error); }
});

function result(found, picture) {
  const rows = [
    ["As it is", found.raw_bits / 8], ["PNG", found.png_bytes], ["WebP, lossless", found.webp_bytes],
    ["nextpixel, coded pixels", found.payload_bits / 8, true], ["nextpixel, whole archive", found.bytes, true],
  ].filter(([, size]) => size !== undefined);
  const most = Math.max(...rows.map(([, size]) => size));
  element("compress-table").tBodies[0].replaceChildren(...rows.map(([name, size, own]) => {
    const row = document.createElement("tr"), head = document.createElement("th"), figure = document.createElement("td"), bar = document.createElement("td");
    head.scope = "row";
    head.textContent = name;
    figure.textContent = `${digits(size, 0)} bytes`;
    bar.className = "bar";
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    rect.setAttribute("width", `${(100 * size) / most}%`);
    rect.setAttribute("height", "100%");
    rect.setAttribute("fill", `var(--${own ? "accent" : "bar"})`);
    svg.append(rect);
    bar.append(svg);
    row.className = own ? "own" : "";
    row.append(head, figure, bar);
    return row;
  }));
  const { height, width } = picture, bits = floatsIn(found.bits), top = Math.max(...bits);
  paint(element("compress-bits"), height, width, (i, j) => heat(bits[i * width + j] / top));
  element("compress-scale").textContent = `bright: ${digits(top, 1)} bits`;
  show(element("compress-back"), new Picture([picture.channels, height, width], picture.levels, Uint16Array.from(levelsIn(found.restored, picture.levels))));
  element("compress-same").textContent = found.same ? "Decoded again: every pixel is the same" : "Decoded again: it differs, which must not be; please report it";
  archive = blobOf(found.archive);
  const link = element("compress-download");
  if (link.href) URL.revokeObjectURL(link.href);
  Object.assign(link, { href: URL.createObjectURL(archive), download: "picture.npx", hidden: false });
  element("compress-result").hidden = false;
  const frame = found.bytes - Math.ceil(found.payload_bits / 8);
  say(`${digits(found.bits_per_dim, 3)} bits/dim. ${frame} bytes of the archive say what it is; over many pictures they are shared.`);
}

export function forgetCompressed() { latest.stop(); element("compress-result").hidden = true; element("compress-download").hidden = true; }
