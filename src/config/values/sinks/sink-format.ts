/** Value type of `format`: how a sink writes audit records. Pure. */
import { formatValue, type ValueType, valueType } from "../value-type.ts";

export const sinkFormats = ["json", "cloudevents", "ocsf"] as const;
export type SinkFormat = (typeof sinkFormats)[number];

const format = (): ValueType<SinkFormat> =>
  valueType({ label: sinkFormats.join(", "), json: { enum: [...sinkFormats] } }, (value, refuse) => {
    const known = sinkFormats.find((one) => one === value);
    return known ?? refuse(`${formatValue(value)} is not a format`, `write ${sinkFormats.join(", ")}`);
  });

/** The key that every sink has. */
export const formatShape = { format: format().prefault("json") };
