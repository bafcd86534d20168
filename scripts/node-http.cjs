/** `node:http` for the built program, as an object whose properties are read when they are used (build.ts). */
module.exports = process.getBuiltinModule("node:http");
