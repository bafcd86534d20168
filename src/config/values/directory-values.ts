/** Value type of `directories`: the keys that all directories share. An adapter checks the settings of its provider. */
import { isDirectoryName } from "../../events/index.ts";
import { formatDuration, parseDuration } from "./network-values.ts";
import {
  formatValue,
  isPlainObject,
  isRefused,
  parseJson,
  type Refuse,
  type RefusedValue,
  scalarText,
  type ValueType,
  valueType,
} from "./value-type.ts";

/** A directory of people and groups, and how its people are matched with people who sign in. */
export type DirectoryConfig = Readonly<{
  name: string;
  provider: string;
  /** The directory's id of a person equals the provider's `sub`, or the claim; or its e-mail the verified one. */
  match: "subject" | "claim" | "email";
  /** Null unless `match` is `claim`. */
  claim: string | null;
  /** Whose people it lists: an entry of `sign_in_providers`; null: the provider of the `idp_` keys. */
  signInProvider: string | null;
  /** What of a group policies name. */
  groups: "name" | "id";
  everyMs: number;
  /** What the adapter of the provider reads, secrets included. */
  settings: Readonly<Record<string, unknown>>;
}>;

const directoriesMax = 16;
const matches = ["subject", "claim", "email"] as const;
const groupKeys = ["name", "id"] as const;
const everyMsDefault = 15 * 60_000;
const everyMsMin = 10_000;
const everyMsMax = 24 * 3_600_000;

export const directories = (): ValueType<readonly DirectoryConfig[]> =>
  valueType(
    {
      label: "mapping of name to directory",
      json: { type: ["object", "string"], additionalProperties: { type: "object" } },
    },
    (value, refuse) => {
      const map = typeof value === "string" ? parseJson(value) : value;
      if (!isPlainObject(map)) return refuse("is not a mapping", "write a name, and under it provider");
      const found: DirectoryConfig[] = [];
      let refused: RefusedValue | undefined;
      for (const [name, item] of Object.entries(map)) {
        const inside: Refuse = (problem, remedy, path = []) => refuse(problem, remedy, [name, ...path]);
        const directory = readDirectory(name, item, inside);
        if (isRefused(directory)) refused = directory;
        else found.push(directory);
      }
      if (found.length > directoriesMax) return refuse("has too many directories", `keep ${directoriesMax} of them`);
      return refused ?? found;
    },
  );

function readDirectory(name: string, item: unknown, refuse: Refuse): DirectoryConfig | RefusedValue {
  if (!isDirectoryName(name))
    return refuse(`${formatValue(name)} is not a name`, "use up to 40 lowercase letters, digits, . and -");
  if (!isPlainObject(item)) return refuse(`${formatValue(item)} is not a directory`, "write provider: file");
  const { provider: written, match: by = "subject", claim: named, groups: key = "name", ...more } = item;
  const { interval, sign_in_provider: signsIn, ...settings } = more;
  const provider = scalarText(written) ?? "";
  if (provider === "") return refuse("names no provider", "write one such as provider: file", ["provider"]);
  const match = matches.find((each) => each === by);
  if (match === undefined)
    return refuse(`${formatValue(by)} is not a way to match`, `write ${matches.join(", ")}`, ["match"]);
  const claim = named === undefined ? null : (scalarText(named) ?? "");
  if ((match === "claim") !== (claim !== null && claim !== ""))
    return refuse("names a claim only with match: claim", "write match: claim with claim, or neither", ["claim"]);
  const groups = groupKeys.find((each) => each === key);
  if (groups === undefined)
    return refuse(`${formatValue(key)} is not what a group is named by`, `write ${groupKeys.join(" or ")}`, ["groups"]);
  const everyMs = interval === undefined ? everyMsDefault : parseDuration(scalarText(interval) ?? "");
  if (everyMs === undefined || everyMs < everyMsMin || everyMs > everyMsMax)
    return refuse(
      `${formatValue(interval)} is not a possible interval`,
      `write one from ${formatDuration(everyMsMin)} to ${formatDuration(everyMsMax)}, such as 15m`,
      ["interval"],
    );
  const signInProvider = signsIn === undefined ? null : (scalarText(signsIn) ?? "");
  if (signInProvider === "")
    return refuse("is not the name of a provider", "write the name of an entry of sign_in_providers", [
      "sign_in_provider",
    ]);
  return { name, provider, match, claim, signInProvider, groups, everyMs, settings };
}
