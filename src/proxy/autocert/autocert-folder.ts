/**
 * Autocert folder: certificates that an ACME authority gave, the account they were ordered with, and questions under way.
 *
 * Certificates lie where Pomerium keeps them (`certificates/<authority>/<host>/<host>.crt` and `.key`), so that its folder can be taken
 * over. Every file is its owner's alone and appears whole or not at all. Several processes may share the folder.
 */
import { createPrivateKey, randomUUID, X509Certificate } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { TlsFiles } from "../../config/index.ts";

export type Account = Readonly<{ key: string; url: string | null }>;
export type KeptPair = TlsFiles & Readonly<{ certificate: X509Certificate }>;

export class AutocertFolder {
  readonly #path: string;
  readonly #authority: string;

  constructor(path: string, directory: URL) {
    this.#path = path;
    this.#authority = `${directory.host}${directory.pathname}`.replaceAll(/[^A-Za-z0-9.]+/g, "-").replace(/-$/, "");
    mkdirSync(path, { recursive: true, mode: 0o700 });
  }

  /** @returns undefined when there is none, or none that can be served */
  pair(host: string): KeptPair | undefined {
    const [cert, key] = [this.#read(this.#fileOf(host, "crt")), this.#read(this.#fileOf(host, "key"))];
    if (cert === undefined || key === undefined) return undefined;
    try {
      const certificate = new X509Certificate(cert);
      return certificate.checkPrivateKey(createPrivateKey(key)) ? { cert, key, certificate } : undefined;
    } catch {
      return undefined;
    }
  }

  savePair(host: string, { cert, key }: TlsFiles): void {
    this.#write(this.#fileOf(host, "key"), key);
    this.#write(this.#fileOf(host, "crt"), cert);
  }

  account(): Account | undefined {
    const key = this.#read(this.#accountFile("key"));
    return key === undefined ? undefined : { key, url: this.#read(this.#accountFile("url"))?.trim() ?? null };
  }

  saveAccount({ key, url }: Account): void {
    this.#write(this.#accountFile("key"), key);
    if (url !== null) this.#write(this.#accountFile("url"), `${url}\n`);
  }

  /** The answer to a question of the authority, for whichever process is asked. */
  challengeAnswer(token: string): string | undefined {
    return this.#read(this.#challengeFile(token));
  }
  saveChallenge(token: string, answer: string): void {
    this.#write(this.#challengeFile(token), answer);
  }
  removeChallenge(token: string): void {
    rmSync(this.#challengeFile(token), { force: true });
  }

  /** The certificate that the authority wants to see of a host, whichever process it meets. */
  question(host: string): TlsFiles | undefined {
    const pair = this.#read(this.#questionFile(host));
    const key = pair?.indexOf("-----BEGIN PRIVATE KEY-----") ?? -1;
    return pair === undefined || key < 0 ? undefined : { cert: pair.slice(0, key), key: pair.slice(key) };
  }
  saveQuestion(host: string, { cert, key }: TlsFiles): void {
    this.#write(this.#questionFile(host), `${cert.trimEnd()}\n${key}`);
  }
  removeQuestion(host: string): void {
    rmSync(this.#questionFile(host), { force: true });
    try {
      rmdirSync(join(this.#path, "questions"));
    } catch {
      // there are others, or there is none
    }
  }
  /** What a process left that was killed while it ordered; for who holds the lock. */
  forgetQuestions(): void {
    rmSync(join(this.#path, "questions"), { recursive: true, force: true });
  }
  /** Whether there is a question, of any process. For every connection: one look at the file system. */
  isAsked(): boolean {
    return existsSync(join(this.#path, "questions"));
  }

  #fileOf(host: string, ending: "crt" | "key"): string {
    const name = encodeURIComponent(host);
    return join(this.#path, "certificates", this.#authority, name, `${name}.${ending}`);
  }
  #accountFile(ending: "key" | "url"): string {
    return join(this.#path, "accounts", this.#authority, `account.${ending}`);
  }
  #questionFile(host: string): string {
    return join(this.#path, "questions", encodeURIComponent(host));
  }
  /** A token is letters, digits, `-` and `_` (RFC 8555 §8.3). */
  #challengeFile(token: string): string {
    return join(this.#path, "challenges", encodeURIComponent(token).replaceAll(".", "%2E"));
  }

  #read(path: string): string | undefined {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return undefined;
    }
  }

  #write(path: string, text: string): void {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const draft = `${path}.${randomUUID()}`;
    try {
      writeFileSync(draft, text, { mode: 0o600, flag: "wx", flush: true });
      chmodSync(draft, 0o600);
      renameSync(draft, path);
    } finally {
      rmSync(draft, { force: true });
    }
  }
}
