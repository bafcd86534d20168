/**
 * Node version: ends the process with one line when this Node is too old to run Cardea.
 *
 * Plain, elderly JavaScript, for it must be understood by the Node that it refuses.
 */
const oldest = 26;
const elsewhere = "install it from https://nodejs.org";

/** An npm script runs on the Node that `npm ci` brought; on another one only if something is wrong with that. */
function remedy() {
  if (process.env.npm_lifecycle_event === undefined) {
    return `in a checkout use \`npm start\` or \`npm run cardea --\`, which run on the one that \`npm ci\` brings; elsewhere ${elsewhere}`;
  }
  switch (require("./link-node.cjs").linkNode()) {
    case "linked":
      return "npm had mislaid the one that `npm ci` brought; run the same command again";
    case "broken":
      return `the one that \`npm ci\` brought does not run here, for want of a library (on Debian: apt-get install libatomic1), or ${elsewhere}`;
    default:
      return `the optional package that brings it for ${process.platform}-${process.arch} is not installed; run \`npm ci --include=optional\`, or ${elsewhere}`;
  }
}

if (Number(process.versions.node.split(".")[0]) < oldest) {
  process.stderr.write(`cardea needs Node ${oldest} or newer, and this is ${process.version}: ${remedy()}\n`);
  process.exit(2);
}
