"use strict";
// Shows the voxels that stand in the page: three planes, a point, a window. Axes of the voxels run to the patient's
// left, back and feet, so that each plane is on the screen as radiologists have it without any turning.

const data = JSON.parse(document.getElementById("data").textContent);
const [nx, ny, nz] = data.shape;
// the axis along the columns, the one down the rows, the one that is cut
const PLANES = { axial: [0, 1, 2], coronal: [0, 2, 1], sagittal: [1, 2, 0] };
const state = { point: data.point.slice(), frame: 0 };
const views = [];

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Each code is stored less the median of its neighbours to the left, above and in the slice before.
function restored(codes) {
  const plane = nx * ny;
  for (let i = 0, frame = 0; frame < codes.length / (plane * nz); frame++)
    for (let z = 0; z < nz; z++)
      for (let y = 0; y < ny; y++)
        for (let x = 0; x < nx; x++, i++) {
          const a = x ? codes[i - 1] : 0, b = y ? codes[i - nx] : 0, c = z ? codes[i - plane] : 0;
          codes[i] += Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
        }
  return codes;
}

async function unpack(layer) {
  const codes = restored(await inflated(layer.data));
  layer.codes = codes;
  if (layer.wide) {
    const half = codes.length / 2;
    layer.codes = Uint16Array.from({ length: half }, (_, i) => codes[i] + 256 * codes[half + i]);
  }
  layer.frames = layer.codes.length / (nx * ny * nz);
  delete layer.data;
}

const valueOf = (layer, code) => layer.low + (code / 255) * (layer.high - layer.low);
const rgba = (r, g, b, a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0; // as little-endian memory has it

// The colour of every code of a layer.
function table(layer) {
  if (layer.kind === "label") {
    const alpha = Math.round(255 * layer.opacity);
    return Uint32Array.from(layer.labels, (l) => (l.shown && l.value ? rgba(...l.rgb, alpha) : 0));
  }
  const [low, high] = layer.window;
  return Uint32Array.from({ length: 256 }, (_, code) => {
    const unit = Math.min(Math.max((valueOf(layer, code) - low) / (high - low), 0), 1);
    const part = (from) => Math.round(255 * Math.min(Math.max(3 * unit - from, 0), 1));
    const grey = Math.round(255 * unit);
    if (layer.kind === "grey") return rgba(grey, grey, grey, 255);
    return unit > 0 ? rgba(part(0), part(1), part(2), Math.round(255 * layer.opacity)) : 0;
  });
}

function codeAt(layer, [x, y, z]) {
  const frame = layer.frames > 1 ? state.frame : 0;
  return layer.codes[((frame * nz + z) * ny + y) * nx + x];
}

class View {
  constructor(plane) {
    this.plane = plane;
    [this.column, this.row, this.cut] = PLANES[plane];
    this.columns = data.shape[this.column];
    this.rows = data.shape[this.row];
    this.wide = this.columns * data.spacing[this.column];
    this.high = this.rows * data.spacing[this.row];
    this.buffer = element("canvas", { width: this.columns, height: this.rows });
    const help = "arrow keys move the point, Page Up and Page Down the slice, Home goes back";
    this.canvas = element("canvas", { tabindex: 0, role: "img", "aria-label": `${plane} plane; ${help}` });
    const last = data.shape[this.cut] - 1;
    this.slider = element("input", { type: "range", min: 0, max: last, "aria-label": `${plane} slice` });
    const sides = ["left", "right", "top", "bottom"];
    const letters = data.letters[plane].map((letter, i) => element("span", { class: `letter ${sides[i]}` }, letter));
    this.stage = element("div", { class: "stage" }, this.canvas, ...letters);
    const caption = element("figcaption", {}, plane, this.slider);
    this.figure = element("figure", { id: plane }, caption, this.stage);
    this.listen();
  }

  listen() {
    this.slider.addEventListener("input", () => move(this.cut, data.shape[this.cut] - 1 - this.slider.value));
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.canvas.focus();
      this.windowing = event.button === 2 || event.shiftKey;
      this.drag(event);
    });
    this.canvas.addEventListener("pointermove", (event) => event.buttons && this.drag(event));
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      step(this.cut, Math.sign(event.deltaY));
    }, { passive: false });
    this.canvas.addEventListener("keydown", (event) => {
      const moves = {
        ArrowLeft: [this.column, -1], ArrowRight: [this.column, 1], ArrowUp: [this.row, -1], ArrowDown: [this.row, 1],
        PageUp: [this.cut, -1], PageDown: [this.cut, 1],
      };
      if (event.key === "Home") state.point = data.point.slice();
      else if (!moves[event.key]) return;
      event.preventDefault();
      if (moves[event.key]) step(...moves[event.key]);
      draw();
    });
  }

  drag(event) {
    if (this.windowing) {
      const layer = data.layers[0];
      if (layer.kind !== "label" && event.type === "pointermove") windowBy(layer, event.movementX, event.movementY);
      return;
    }
    const box = this.canvas.getBoundingClientRect();
    const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    state.point[this.column] = inside(Math.floor(at[0] * this.columns), this.columns);
    state.point[this.row] = inside(Math.floor(at[1] * this.rows), this.rows);
    draw();
  }

  resize(scale, high) {
    this.canvas.style.width = `${this.wide * scale}px`;
    this.canvas.style.height = `${this.high * scale}px`;
    this.canvas.width = Math.max(Math.round(this.wide * scale * devicePixelRatio), 1);
    this.canvas.height = Math.max(Math.round(this.high * scale * devicePixelRatio), 1);
    this.stage.style.height = `${high * scale}px`;
    this.stage.style.minWidth = "64px";
  }

  draw(tables) {
    const pen = this.canvas.getContext("2d"), aside = this.buffer.getContext("2d");
    const { width, height } = this.canvas;
    pen.fillRect(0, 0, width, height);
    data.layers.forEach((layer, number) => {
      const image = aside.createImageData(this.columns, this.rows);
      const pixels = new Uint32Array(image.data.buffer);
      const place = state.point.slice();
      for (let row = 0, i = 0; row < this.rows; row++)
        for (let column = 0; column < this.columns; column++, i++) {
          place[this.column] = column;
          place[this.row] = row;
          pixels[i] = tables[number][codeAt(layer, place)];
        }
      aside.putImageData(image, 0, 0);
      pen.imageSmoothingEnabled = layer.kind !== "label";
      pen.drawImage(this.buffer, 0, 0, width, height);
    });
    this.cross(pen, width, height);
    this.slider.value = data.shape[this.cut] - 1 - state.point[this.cut];
  }

  cross(pen, width, height) {
    const x = ((state.point[this.column] + 0.5) * width) / this.columns;
    const y = ((state.point[this.row] + 0.5) * height) / this.rows;
    const gap = 0.04 * Math.min(width, height);
    pen.strokeStyle = "rgba(247, 209, 84, 0.75)";
    pen.lineWidth = devicePixelRatio;
    pen.beginPath();
    for (const [a, b] of [[0, x - gap], [x + gap, width]]) if (b > a) { pen.moveTo(a, y); pen.lineTo(b, y); }
    for (const [a, b] of [[0, y - gap], [y + gap, height]]) if (b > a) { pen.moveTo(x, a); pen.lineTo(x, b); }
    pen.stroke();
  }
}

const inside = (index, n) => Math.min(Math.max(index, 0), n - 1);

function move(axis, index) {
  state.point[axis] = inside(index, data.shape[axis]);
  draw();
}

const step = (axis, by) => move(axis, state.point[axis] + by);

function windowBy(layer, dx, dy) {
  const [low, high] = layer.window, unit = (layer.high - layer.low) / 300;
  const width = Math.max(high - low + dx * unit, unit), level = (low + high) / 2 + dy * unit;
  layer.window = [level - width / 2, level + width / 2];
  draw();
}

const transformed = (matrix, point) => [0, 1, 2].map(
  (r) => matrix[r][0] * point[0] + matrix[r][1] * point[1] + matrix[r][2] * point[2] + matrix[r][3],
);

const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));

function said(layer) {
  const code = codeAt(layer, state.point);
  const value = layer.kind === "label"
    ? layer.labels[code].name
    : `${layer.exact ? "" : "≈ "}${short(valueOf(layer, code))}`;
  return `${layer.name}: ${value}`;
}

function readout() {
  const world = transformed(data.affine, state.point);
  const voxel = transformed(data.toVoxel, world).map((v, axis) => inside(Math.round(v), data.voxels[axis]));
  const where = world.map((v) => v.toFixed(data.decimals)).join(", ");
  const text = [`(${where}) mm`, `voxel (${voxel.join(", ")})`, ...data.layers.map(said)];
  document.getElementById("readout").textContent = text.join("   ·   ");
}

// All planes have one scale: as large as fits side by side, or one below the other on a narrow screen.
function resize() {
  const room = document.getElementById("planes").clientWidth, gap = 8;
  const wide = views.reduce((sum, view) => sum + view.wide, 0);
  const high = Math.max(...views.map((view) => view.high));
  const widest = Math.max(...views.map((view) => view.wide));
  const others = ["header", "#readout", "#controls"].map((name) => document.querySelector(name).offsetHeight);
  const tall = Math.max(window.innerHeight - others.reduce((sum, height) => sum + height, 75), 240);
  const beside = (room - 2 * gap) / wide;
  const scale = Math.min(room < 560 ? room / widest : beside, tall / high);
  for (const view of views) view.resize(scale, high);
  ruler.style.width = `${bar * scale}px`;
  draw();
}

// A round length of up to a third of the axial plane, in mm.
const bar = roundLength((nx * data.spacing[0]) / 3);
const ruler = element("div", { class: "scale" }, `${bar} mm`);

function roundLength(most) {
  const decade = 10 ** Math.floor(Math.log10(most));
  // the logarithm of a number just below a power of ten may be that of the power
  return [5, 2, 1, 0.5].map((n) => Number((n * decade).toPrecision(1))).find((length) => length <= most);
}

let waiting = false;

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    const tables = data.layers.map(table);
    for (const view of views) view.draw(tables);
    for (const refresh of refreshers) refresh();
    readout();
  });
}

const refreshers = [];

function slider(name, [low, high, by], get, set, text = short) {
  const input = element("input", { type: "range", min: low, max: high, step: by });
  const output = element("output");
  input.addEventListener("input", () => { set(Number(input.value)); draw(); });
  refreshers.push(() => { input.value = get(); output.textContent = text(get()); });
  return element("label", {}, name, input, output);
}

function windowControls(layer, prefix) {
  const range = layer.high - layer.low, first = layer.window.slice();
  const level = () => (layer.window[0] + layer.window[1]) / 2, width = () => layer.window[1] - layer.window[0];
  const set = (l, w) => { layer.window = [l - w / 2, l + w / 2]; };
  const reset = element("button", { type: "button" }, "reset");
  reset.addEventListener("click", () => { layer.window = first.slice(); draw(); });
  return [
    slider(`${prefix}level`, [layer.low, layer.high, range / 512], level, (v) => set(v, width())),
    slider(`${prefix}width`, [range / 256, 2 * range, range / 512], width, (v) => set(level(), v)),
    reset,
  ];
}

function box(name, children, change) {
  const input = element("input", { type: "checkbox" });
  input.checked = true;
  input.addEventListener("change", () => { change(input.checked); draw(); });
  return [input, element("label", {}, input, ...children, name)];
}

function names(layer) {
  const list = element("div", { class: "names", role: "group", "aria-label": `labels of ${layer.name}` });
  const made = layer.labels.filter((label) => label.value).map((label) => {
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = `rgb(${label.rgb.join(", ")})`;
    label.shown = true;
    return [label, ...box(label.name, [swatch], (shown) => { label.shown = shown; })];
  });
  const all = box("all", [], (shown) => {
    for (const [label, input] of made) label.shown = input.checked = shown;
  });
  if (made.length > 1) list.append(all[1]);
  list.append(...made.map(([, , row]) => row));
  return list;
}

function controls() {
  const found = [];
  data.layers.forEach((layer, number) => {
    const prefix = number ? `${layer.name} ` : "";
    if (layer.kind !== "label") found.push(...windowControls(layer, prefix));
    if (number) {
      const percent = (v) => `${Math.round(100 * v)} %`;
      found.push(slider(`${prefix}opacity`, [0, 1, 0.01], () => layer.opacity, (v) => { layer.opacity = v; }, percent));
    }
  });
  const frames = Math.max(...data.layers.map((layer) => layer.frames));
  if (frames > 1)
    found.push(slider("t", [0, frames - 1, 1], () => state.frame, (v) => { state.frame = v; }, String));
  return [...found, ...data.layers.filter((layer) => layer.kind === "label").map(names)];
}

async function start() {
  document.getElementById("facts").textContent = data.facts.join("   ·   ");
  document.getElementById("notes").append(...data.notes.map((note) => element("p", {}, note)));
  if (typeof DecompressionStream === "undefined") throw new Error("a browser from 2023 or later is needed");
  await Promise.all(data.layers.map(unpack));
  views.push(...Object.keys(PLANES).map((plane) => new View(plane)));
  views[0].stage.append(ruler);
  document.getElementById("planes").append(...views.map((view) => view.figure));
  document.getElementById("controls").append(...controls());
  new ResizeObserver(resize).observe(document.body);
  resize();
}

start().catch((error) => {
  document.getElementById("readout").textContent = `The voxels cannot be shown: ${error.message}.`;
});
