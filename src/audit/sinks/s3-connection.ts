/**
 * S3 connection: a client of an object store with the S3 API, as a configuration describes it.
 *
 * - The client library is loaded here, on request: it takes a third of a second and 20 MB, which others do not pay.
 * - Without credentials in the configuration, the library finds them: in the environment, a shared file, or the role of
 *   the machine, and renews them.
 */
import { Agent } from "node:https";
import { getCACertificates } from "node:tls";
import type { S3Client } from "@aws-sdk/client-s3";
import type { S3SinkConfig } from "../../config/index.ts";

export type S3Library = typeof import("@aws-sdk/client-s3");
export type S3Connection = Readonly<{ client: S3Client; library: S3Library }>;

const connectMsMax = 10_000;

/** @param authority PEM that is trusted besides the system's, unless the sink names its own */
export async function connectS3(config: S3SinkConfig, authority: string | null): Promise<S3Connection> {
  const library = await import("@aws-sdk/client-s3");
  const { endpoint, region, pathStyle, credentials, ca, timeoutMs } = config;
  const trusted = ca !== null ? { ca } : authority !== null ? { ca: [...getCACertificates(), authority] } : {};
  const client = new library.S3Client({
    region,
    ...(endpoint === null ? {} : { endpoint: endpoint.origin }),
    forcePathStyle: pathStyle,
    ...(credentials === null ? {} : { credentials }),
    maxAttempts: 1, // delivery tries again, without end
    requestHandler: {
      httpsAgent: new Agent({ keepAlive: true, maxSockets: 4, ...trusted }),
      connectionTimeout: Math.min(timeoutMs, connectMsMax),
      requestTimeout: timeoutMs,
      throwOnRequestTimeout: true,
    },
  });
  return { client, library };
}
