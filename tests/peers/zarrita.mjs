// Reads every level of volumes served over HTTP with zarrita; prints what it found as a JSON list.
// Usage: node zarrita.mjs URL [URL ...]
import { createHash } from "node:crypto";
import * as zarr from "zarrita";

const digest = ({ buffer, byteOffset, byteLength }) =>
  createHash("sha256").update(Buffer.from(buffer, byteOffset, byteLength)).digest("hex");

const found = [];
for (const url of process.argv.slice(2)) {
  const group = await zarr.open(zarr.root(new zarr.FetchStore(url)), { kind: "group" });
  const { version, multiscales } = group.attrs.ome;
  const levels = [];
  for (const { path } of multiscales[0].datasets) {
    const array = await zarr.open(group.resolve(path), { kind: "array" });
    const whole = await zarr.get(array);
    const last = await zarr.get(array, array.shape.map((n) => n - 1));
    // one plane across z touches some inner chunks of a shard and leaves the others
    const z = array.shape.length - 3;
    const plane = await zarr.get(array, array.shape.map((n, axis) => (axis === z ? n >> 1 : null)));
    levels.push({
      path,
      shape: whole.shape,
      stride: whole.stride,
      dtype: array.dtype,
      dimensions: array.dimensionNames,
      whole: digest(whole.data),
      plane: digest(plane.data),
      last: String(last),
    });
  }
  found.push({ version, axes: multiscales[0].axes.map((axis) => axis.name), levels });
}
console.log(JSON.stringify(found));
