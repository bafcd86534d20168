/** Security event tokens, subjects, streams and poll messages: the forms of the specifications, and hostile ones. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  eventNameOf,
  eventUriOf,
  formatPollRequest,
  formatSubject,
  metadataUrlOf,
  parsePollRequest,
  parsePollResponse,
  parseSecurityEvent,
  parseStreamConfiguration,
  parseStreamStatus,
  parseSubject,
  parseTransmitterMetadata,
  pollMethod,
  securityEventClaims,
  setBytesMax,
  signalNames,
  streamEventNames,
  subjectsMatch,
} from "../../../src/auth/shared-signals/index.ts";

const issuer = "https://idp.example.com/";
const rules = {
  issuer,
  audiences: ["https://cardea.example.com"],
  nowMs: 1_700_000_000_000,
  futureMsMax: 60_000,
  ageMsMax: 86_400_000,
};
const revoked = eventUriOf("session-revoked");
const good = {
  iss: issuer,
  aud: "https://cardea.example.com",
  jti: "756E69717565",
  iat: 1_699_999_990,
  txn: "8675309",
  sub_id: { format: "email", email: "foo@example.com" },
  events: { [revoked]: { event_timestamp: 1_699_999_900, reason_admin: { en: "policy" } } },
};
const errorOf = (change: object): string => {
  const parsed = parseSecurityEvent({ ...good, ...change }, rules);
  return parsed.type === "error" ? parsed.error.err : "accepted";
};

describe("security event", () => {
  test("a token of the profile is read whole", () => {
    const parsed = parseSecurityEvent(good, rules);
    assert.equal(parsed.type, "event");
    if (parsed.type !== "event") return;
    const { payload, ...event } = parsed.event;
    assert.deepEqual(event, {
      issuer,
      audiences: ["https://cardea.example.com"],
      jti: "756E69717565",
      issuedAt: 1_699_999_990_000,
      occurredAt: 1_699_999_900_000,
      txn: "8675309",
      subject: { format: "email", email: "foo@example.com" },
      name: "session-revoked",
      uri: revoked,
    });
    assert.deepEqual(payload["reason_admin"], { en: "policy" });
  });

  test("each defect has the error of the registry", () => {
    const vectors: readonly (readonly [object, string])[] = [
      [{ iss: "https://idp.example.com" }, "invalid_issuer"],
      [{ iss: undefined }, "invalid_issuer"],
      [{ aud: "https://other.example.com" }, "invalid_audience"],
      [{ aud: [] }, "invalid_audience"],
      [{ aud: [["https://cardea.example.com"]] }, "invalid_audience"],
      [{ aud: undefined }, "invalid_audience"],
      [{ sub: "alice" }, "invalid_request"],
      [{ sub: null }, "invalid_request"],
      [{ exp: 1_800_000_000 }, "invalid_request"],
      [{ jti: undefined }, "invalid_request"],
      [{ jti: "" }, "invalid_request"],
      [{ jti: "a\nb" }, "invalid_request"],
      [{ jti: "x".repeat(513) }, "invalid_request"],
      [{ jti: 7 }, "invalid_request"],
      [{ iat: undefined }, "invalid_request"],
      [{ iat: "1699999990" }, "invalid_request"],
      [{ iat: -1 }, "invalid_request"],
      [{ iat: Number.NaN }, "invalid_request"],
      [{ iat: 1_699_999_990_000 }, "invalid_request"],
      [{ iat: 1_700_000_061 }, "invalid_request"],
      [{ iat: 1_700_000_060 }, "accepted"],
      [{ events: {} }, "invalid_request"],
      [{ events: { [revoked]: {}, [eventUriOf("account-disabled")]: {} } }, "invalid_request"],
      [{ events: [revoked] }, "invalid_request"],
      [{ events: { [revoked]: "x" } }, "invalid_request"],
      [{ events: undefined }, "invalid_request"],
      [{ events: { "session-revoked": {} } }, "invalid_request"],
      [{ sub_id: undefined }, "invalid_request"],
      [{ sub_id: { format: "email" } }, "invalid_request"],
      [{ sub_id: { format: "email", email: 5 } }, "invalid_request"],
      [{ aud: ["x", "https://cardea.example.com"] }, "accepted"],
      [{ strange: 1 }, "accepted"],
    ];
    for (const [change, expected] of vectors) assert.equal(errorOf(change), expected, JSON.stringify(change));
  });

  test("an event of an unknown type is accepted without a name", () => {
    const parsed = parseSecurityEvent({ ...good, events: { "urn:example:event": {} } }, rules);
    assert.equal(parsed.type === "event" && parsed.event.name, null);
  });

  test("an event is never later than its token, and the subject of earlier drafts is read", () => {
    const uri = eventUriOf("account-disabled");
    const subject = { subject_type: "iss-sub", iss: issuer, sub: "7375626A656374" };
    const parsed = parseSecurityEvent(
      { ...good, sub_id: undefined, events: { [uri]: { subject, event_timestamp: 9_000_000_000 } } },
      rules,
    );
    assert.equal(parsed.type, "event");
    if (parsed.type !== "event") return;
    assert.equal(parsed.event.occurredAt, parsed.event.issuedAt);
    assert.deepEqual(parsed.event.subject, { format: "iss_sub", iss: issuer, sub: "7375626A656374" });
  });

  test("a token that is too old is refused, and a time of the event that is far too early is none", () => {
    const day = 86_400;
    assert.equal(errorOf({ iat: 1_700_000_000 - day - 1 }), "invalid_request");
    assert.equal(errorOf({ iat: 1_700_000_000 - day }), "accepted");
    for (const [said, expected] of [
      [1, good.iat],
      [good.iat - day, good.iat - day],
    ] as const) {
      const parsed = parseSecurityEvent({ ...good, events: { [revoked]: { event_timestamp: said } } }, rules);
      assert.equal(parsed.type === "event" && parsed.event.occurredAt, expected * 1_000);
    }
  });

  test("what is written is what is read", () => {
    const subject = { format: "opaque", id: "abc" } as const;
    const claims = securityEventClaims({
      issuer,
      audience: "https://cardea.example.com",
      jti: "1",
      issuedAt: 1_699_999_990_500,
      txn: null,
      subject,
      name: "verification",
      payload: { state: "s" },
    });
    const parsed = parseSecurityEvent(JSON.parse(JSON.stringify(claims)), rules);
    assert.equal(parsed.type === "event" && parsed.event.name, "verification");
  });

  test("names and URIs of events are one to one", () => {
    const names = [...signalNames, ...streamEventNames];
    assert.equal(new Set(names.map(eventUriOf)).size, names.length);
    for (const name of names) assert.equal(eventNameOf(eventUriOf(name)), name);
    assert.equal(eventNameOf("__proto__"), undefined);
  });
});

describe("subject identifiers", () => {
  test("every format comes back as it was", () => {
    const forms = [
      { format: "account", uri: "acct:a@example.com" },
      { format: "email", email: "a@example.com" },
      { format: "iss_sub", iss: issuer, sub: "1" },
      { format: "opaque", id: "1" },
      { format: "phone_number", phone_number: "+12065550100" },
      { format: "did", url: "did:example:1" },
      { format: "uri", uri: "urn:x:1" },
      { format: "jwt_id", iss: issuer, jti: "1" },
      { format: "saml_assertion_id", issuer, assertion_id: "_1" },
      { format: "ip-addresses", "ip-addresses": ["10.0.0.1"] },
      { format: "aliases", identifiers: [{ format: "email", email: "a@example.com" }] },
      { format: "complex", user: { format: "email", email: "a@x" }, session: { format: "opaque", id: "s" } },
    ];
    for (const form of forms) {
      const subject = parseSubject(form);
      assert.deepEqual(subject && formatSubject(subject), form);
    }
  });

  test("an unknown format has a name and nothing else; what is no identifier is refused", () => {
    assert.deepEqual(parseSubject({ format: "catalog_item", id: "1" }), { format: "unknown", named: "catalog_item" });
    const email = { format: "email", email: "a@x" };
    const wrong = [
      null,
      "a@x",
      [],
      {},
      { format: 1 },
      { format: "email", email: "a\u0000@x" },
      { format: "email", email: "x".repeat(2_001) },
      { format: "complex" },
      { format: "complex", user: { format: "complex", user: email } },
      { format: "complex", user: { format: "email" } },
      { format: "aliases", identifiers: [] },
      { format: "aliases", identifiers: [{ format: "aliases", identifiers: [email] }] },
      { format: "aliases", identifiers: Array.from({ length: 21 }, () => email) },
      Object.fromEntries([["format", "complex"], ...Array.from({ length: 17 }, (_, i) => [`m${i}`, email])]),
      { format: "ip-addresses", "ip-addresses": Array.from({ length: 33 }, () => "10.0.0.1") },
    ];
    for (const each of wrong) assert.equal(parseSubject(each), undefined, JSON.stringify(each));
  });

  test("a member named like a property of every object is only a name", () => {
    const subject = parseSubject(JSON.parse('{"format":"complex","__proto__":{"format":"opaque","id":"1"}}'));
    assert.equal(subject?.format, "complex");
    assert.equal(({} as Record<string, unknown>)["format"], undefined);
    assert.deepEqual(parseSubject({ format: "toString" }), { format: "unknown", named: "toString" });
  });

  test("a missing member of a complex subject is a wildcard", () => {
    const user = { format: "email", email: "jdoe@example.com" } as const;
    const other = { format: "email", email: "other@example.com" } as const;
    const device = { format: "opaque", id: "d1" } as const;
    const of = (members: object) => ({ format: "complex", members }) as Parameters<typeof subjectsMatch>[0];
    assert.equal(subjectsMatch(of({ user, device }), of({ user })), true);
    assert.equal(subjectsMatch(of({ user }), of({ device })), true);
    assert.equal(subjectsMatch(of({ user, device }), of({ user: other, device })), false);
    assert.equal(subjectsMatch(user, { format: "email", email: "JDoe@Example.com" }), true);
    assert.equal(subjectsMatch(user, of({ user })), false);
  });
});

describe("streams and poll messages", () => {
  const metadata = {
    issuer,
    jwks_uri: "https://idp.example.com/jwks",
    configuration_endpoint: "https://idp.example.com/s",
  };

  test("the well-known path goes between host and path", () => {
    assert.equal(metadataUrlOf("https://tr.example.com").href, "https://tr.example.com/.well-known/ssf-configuration");
    assert.equal(
      metadataUrlOf("https://tr.example.com/issuer1/").href,
      "https://tr.example.com/.well-known/ssf-configuration/issuer1",
    );
  });

  test("metadata of another issuer, or with keys over plain HTTP, is not used", () => {
    assert.equal(parseTransmitterMetadata(metadata, issuer).ok, true);
    assert.equal(parseTransmitterMetadata(metadata, "https://other.example.com/").ok, false);
    assert.equal(parseTransmitterMetadata({ ...metadata, jwks_uri: "http://idp.example.com/jwks" }, issuer).ok, false);
    assert.equal(parseTransmitterMetadata({ ...metadata, jwks_uri: "file:///etc/passwd" }, issuer).ok, false);
    const parsed = parseTransmitterMetadata({ ...metadata, configuration_endpoint: "http://evil/" }, issuer);
    assert.equal(parsed.ok && parsed.value.configuration_endpoint, null);
  });

  test("a stream is read, and one of another issuer is not", () => {
    const stream = {
      stream_id: "f67e",
      iss: issuer,
      aud: ["https://cardea.example.com"],
      delivery: { method: pollMethod, endpoint_url: "https://idp.example.com/poll" },
      events_delivered: [revoked],
      min_verification_interval: 60,
    };
    const parsed = parseStreamConfiguration(stream, issuer);
    assert.equal(parsed.ok && parsed.value.min_verification_interval, 60);
    assert.equal(parsed.ok && parsed.value.delivery.method, pollMethod);
    assert.equal(parseStreamConfiguration({ ...stream, iss: "https://x/" }, issuer).ok, false);
    assert.equal(parseStreamConfiguration({ ...stream, delivery: { method: "urn:x" } }, issuer).ok, false);
    assert.equal(parseStreamStatus({ stream_id: "f67e", status: "paused" }).ok, true);
    assert.equal(parseStreamStatus({ stream_id: "f67e", status: "asleep" }).ok, false);
  });

  test("poll messages are read within their bounds", () => {
    assert.deepEqual(parsePollRequest({}), { maxEvents: null, returnImmediately: false, ack: [], setErrs: {} });
    const request = {
      maxEvents: 5,
      returnImmediately: true,
      ack: ["a"],
      setErrs: { b: { err: "invalid_key", description: "no" } },
    } as const;
    const parsed = parsePollRequest(JSON.parse(JSON.stringify(request)));
    assert.deepEqual(parsed, request);
    assert.deepEqual(parsed && formatPollRequest(parsed), request);
    for (const wrong of [null, [], { maxEvents: -1 }, { maxEvents: "5" }, { ack: "a" }, { ack: [1] }, { setErrs: [] }])
      assert.equal(parsePollRequest(wrong), undefined, JSON.stringify(wrong));
    const response = parsePollResponse({ sets: { a: "x.y.z" }, moreAvailable: true });
    assert.deepEqual([...(response?.sets ?? [])], [["a", "x.y.z"]]);
    assert.equal(response?.moreAvailable, true);
    for (const wrong of [{}, { sets: [] }, { sets: { a: 1 } }, { sets: { a: "x".repeat(setBytesMax + 1) } }])
      assert.equal(parsePollResponse(wrong), undefined);
    const many = Object.fromEntries(Array.from({ length: 1_001 }, (_, i) => [`j${i}`, "x"]));
    assert.equal(parsePollResponse({ sets: many }), undefined);
  });
});
