/**
 * Picture fetch: gets one picture of the configuration. It accepts pictures only, of a bounded size, without redirects.
 */
import { type Picture, pictureBytesMax } from "./picture-store.ts";

const timeoutMs = 5_000;

export async function fetchPicture(url: string): Promise<Picture> {
  const response = await fetch(url, {
    redirect: "error",
    signal: AbortSignal.timeout(timeoutMs),
    headers: { accept: "image/*" },
  });
  const type = (response.headers.get("content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (response.status !== 200 || !/^image\/[a-z0-9.+-]{1,40}$/.test(type)) {
    await response.body?.cancel();
    throw new TypeError(`the answer is ${response.status} with the type ${type === "" ? "none" : type.slice(0, 60)}`);
  }
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > pictureBytesMax) throw new TypeError(`the picture is larger than ${pictureBytesMax} bytes`);
    chunks.push(chunk);
  }
  return { type, body: Buffer.concat(chunks) };
}
