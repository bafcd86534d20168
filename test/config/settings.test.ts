/** Settings: every key with its source, in the words of the file, and never a secret. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { reloadConfig } from "../../src/config/index.ts";
import type { Setting } from "../../src/config/settings.ts";
import { base, config, goodRoute, parse } from "./support.ts";

const settingOf = (key: string, { settings }: Pick<ReturnType<typeof config>, "settings">): Setting => {
  const found = settings.flatMap((section) => section.settings).find((setting) => setting.key === key);
  return found ?? assert.fail(`no setting ${key}`);
};

test("each value says where it comes from, and a secret only whether it is set", () => {
  const text = `${base}operators: [{who: "group:hr", route_groups: [hr]}]\nbroker: {lease: 3s}\nnats: {servers: ["nats://n:1"], password: planted-one}\nidp_request_params: {key: planted-two}\nsignout_redirect_url: https://x.example/?key=planted-three\n${goodRoute}`;
  const parsed = parse(text, {
    env: { REFRESH_INTERVAL: "5m", BROKER_TAKEOVER: "2s", IDP_CLIENT_SECRET: "planted-four" },
  });
  if (!parsed.ok) return assert.fail(JSON.stringify(parsed.problems));
  const at = (key: string): unknown[] => {
    const { value, source, variable, secret, set } = settingOf(key, parsed.config);
    return [value, source, variable, secret, set];
  };
  assert.deepEqual(at("broker.lease"), ["3s", "file", null, false, true]);
  assert.deepEqual(at("refresh_interval"), ["5m", "env", "REFRESH_INTERVAL", false, true]);
  assert.deepEqual(at("refresh_grace"), ["15m", "default", null, false, false]);
  assert.deepEqual(at("operators")[0], [{ who: "group:hr", route_groups: ["hr"] }]);
  assert.deepEqual(at("nats.password"), [null, "file", null, true, true]);
  assert.deepEqual(at("idp_client_secret"), [null, "env", "IDP_CLIENT_SECRET", true, true]);
  assert.deepEqual(at("idp_request_params"), [null, "file", null, true, true], "a part of it may be secret");
  assert.deepEqual(at("shared_secret_previous"), [null, "default", null, true, false]);
  assert.deepEqual(at("signout_redirect_url")[0], "https://x.example/?***");
  assert.ok(!JSON.stringify(parsed.config.settings).includes("planted"));
  assert.deepEqual(config(text).hash, config(`${text}\n# a comment`).hash, "settings are no part of the hash");
});

test("after a reload, a key that waits for a restart shows the value in force", () => {
  const running = config(`${base}refresh_interval: 5m\ndata_dir: /var/one\n${goodRoute}`);
  const next = config(`${base}refresh_interval: 6m\ndata_dir: /var/two\n${goodRoute}`);
  const { config: applied, waiting } = reloadConfig(running, next);
  assert.ok(waiting.includes("data_dir"));
  const folder = settingOf("data_dir", applied);
  assert.deepEqual([folder.value, folder.waiting], ["/var/one", true]);
  const interval = settingOf("refresh_interval", applied);
  assert.deepEqual([interval.value, interval.waiting], ["6m", false]);
});
