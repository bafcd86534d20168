/**
 * A process whose seccomp filter refuses one `ioctl` request (SIOCOUTQ). It prints whether it can read its kernel's
 * send queues.
 */
const ffi = process.getBuiltinModule("node:ffi");
const library = ffi.dlopen(null, {
  prctl: { arguments: ["i32", "u64", "pointer", "u64", "u64"], return: "i32" },
});
const { prctl } = library.functions;
/** Constants from `linux/prctl.h` and `linux/seccomp.h`. */
const setNoNewPrivileges = 38;
const setSeccomp = 22;
const modeFilter = 2n;
/** BPF: load a word of `struct seccomp_data`, jump if not equal, return. */
const [load, jumpEqual, returnCode] = [0x20, 0x15, 0x06];
const [numberAt, secondArgumentAt] = [0, 24];
const [allow, refuse] = [0x7fff_0000, 0x0005_0001];
const ioctl = process.arch === "x64" ? 16 : 29;
const siocoutq = 0x5411;

/** Instruction code, instructions to skip if equal and if not, and a constant. */
const program = [
  [load, 0, 0, numberAt],
  [jumpEqual, 0, 3, ioctl],
  [load, 0, 0, secondArgumentAt],
  [jumpEqual, 0, 1, siocoutq],
  [returnCode, 0, 0, refuse],
  [returnCode, 0, 0, allow],
] as const;
const code = new DataView(new ArrayBuffer(program.length * 8));
program.forEach(([operation, equal, other, constant], i) => {
  code.setUint16(i * 8, operation, true);
  code.setUint8(i * 8 + 2, equal);
  code.setUint8(i * 8 + 3, other);
  code.setUint32(i * 8 + 4, constant, true);
});
const filter = new DataView(new ArrayBuffer(16));
filter.setUint16(0, program.length, true);
filter.setBigUint64(8, ffi.getRawPointer(code.buffer), true);
const isSandboxed =
  prctl(setNoNewPrivileges, 1n, 0n, 0n, 0n) === 0 &&
  prctl(setSeccomp, modeFilter, ffi.getRawPointer(filter.buffer), 0n, 0n) === 0;
const { heldBytesMax } = await import("../../src/proxy/enforce/send-queue-socket.ts");
process.stdout.write(`${JSON.stringify({ isSandboxed, heldBytesMax: String(heldBytesMax) })}\n`);
void library; // early releases of Node 26 unload a library that nothing refers to
