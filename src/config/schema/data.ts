/** Schema of the keys for data from outside. */

import { dataSources } from "../values/data-values.ts";
import { cardea } from "./keys.ts";

export const dataKeys = {
  data_sources: cardea(
    dataSources().prefault([]),
    "External data sets for the criterion `record`: a list of `{type, url or file, foreign_key, format, refresh_interval, timeout, max_age, max_bytes, max_records, headers}`. See docs/policy.md.",
    { secretParts: ["dataSources.*.headers.*"], inConfig: "value" },
  ),
};
