/** Signal transmitters: reads the files of their secrets. Pure: files are read through a function of the caller. */
import type { ProblemReporter } from "../source/source-locations.ts";
import {
  isClientSecret,
  isToken,
  type SignalTransmitterConfig,
  type WrittenSignalTransmitter,
} from "../values/signal-transmitters.ts";
import type { KeyMaterial } from "./key-material.ts";

export function resolveSignalTransmitters(
  written: readonly WrittenSignalTransmitter[],
  from: Readonly<{ report: ProblemReporter; material: KeyMaterial }>,
): readonly SignalTransmitterConfig[] {
  return written.map((transmitter) => {
    const { pushTokenFile, accessTokenFile, client, ...rest } = transmitter;
    const read = (key: string, inline: string | null, file: string | null): string | null => {
      if (file === null) return inline;
      const path = ["signal_transmitters", transmitter.name, key];
      const text = from.material.fileText(file, { at: path, secrecy: "secret" })?.text.trim() ?? null;
      if (text === null || (key === "client_secret_file" ? isClientSecret(text) : isToken(text))) return text;
      from.report.error(path, `the file ${file} has no such secret`, "write it into the file, alone, on one line");
      return null;
    };
    return {
      ...rest,
      pushToken: read("push_token_file", rest.pushToken, pushTokenFile),
      accessToken: read("access_token_file", rest.accessToken, accessTokenFile),
      client: client && {
        id: client.id,
        secret: read("client_secret_file", client.secret, client.secretFile) ?? "",
        tokenUrl: client.tokenUrl,
        scope: client.scope,
      },
    };
  });
}
