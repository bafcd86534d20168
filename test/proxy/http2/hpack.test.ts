/** HPACK, by the examples of RFC 7541 Appendix C; http2-peers.test.ts has other implementations. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HpackDecoder } from "../../../src/proxy/http2/hpack/decoder.ts";
import { HpackEncoder } from "../../../src/proxy/http2/hpack/encoder.ts";
import type { FieldKind, FieldSink } from "../../../src/proxy/http2/hpack/header-fields.ts";
import { decodedBytesMax, decodeHuffman } from "../../../src/proxy/http2/hpack/huffman.ts";
import { ResponseNames } from "../../../src/proxy/http2/hpack/response-names.ts";
import { huffmanEncode } from "../../support/huffman-encode.ts";
import { runSeed, SeededRandom } from "../../support/seeded-random.ts";

class Fields implements FieldSink {
  readonly list: string[] = [];
  readonly invalid: string[] = [];
  onField(name: string, value: string, _kind: FieldKind, isValueValid: boolean): void {
    this.list.push(name, value);
    if (!isValueValid) this.invalid.push(name);
  }
}

/** @returns names and values in turn; undefined: the block is invalid */
function decode(decoder: HpackDecoder, block: Buffer): readonly string[] | undefined {
  const fields = new Fields();
  decoder.beginBlock();
  return decoder.decode(block, 0, block.length, fields) === block.length ? fields.list : undefined;
}
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

const requests = [
  [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com"],
  [":method", "GET", ":scheme", "http", ":path", "/", ":authority", "www.example.com", "cache-control", "no-cache"],
  [
    ...[":method", "GET", ":scheme", "https", ":path", "/index.html", ":authority", "www.example.com"],
    ...["custom-key", "custom-value"],
  ],
];
const date = "Mon, 21 Oct 2013 20:13:21 GMT";
const responses = [
  [":status", "302", "cache-control", "private", "date", date, "location", "https://www.example.com"],
  [":status", "307", "cache-control", "private", "date", date, "location", "https://www.example.com"],
  [
    ...[":status", "200", "cache-control", "private", "date", "Mon, 21 Oct 2013 20:13:22 GMT"],
    ...["location", "https://www.example.com", "content-encoding", "gzip"],
    ...["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
  ],
];

describe("the examples of RFC 7541", () => {
  const single: Readonly<Record<string, readonly [string, readonly string[]]>> = {
    "C.2.1": ["400a637573746f6d2d6b65790d637573746f6d2d686561646572", ["custom-key", "custom-header"]],
    "C.2.2": ["040c2f73616d706c652f70617468", [":path", "/sample/path"]],
    "C.2.3": ["100870617373776f726406736563726574", ["password", "secret"]],
    "C.2.4": ["82", [":method", "GET"]],
  };
  for (const [name, [block, fields]] of Object.entries(single))
    test(name, () => assert.deepEqual(decode(new HpackDecoder(), hex(block)), fields));

  const sequences: Readonly<Record<string, readonly [blocks: readonly string[], lists: readonly string[][]]>> = {
    "C.3": [
      [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
      ],
      requests,
    ],
    "C.4": [
      [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
      ],
      requests,
    ],
    "C.5": [
      [
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
      ],
      responses,
    ],
    "C.6": [
      [
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
      ],
      responses,
    ],
  };
  for (const [name, [blocks, lists]] of Object.entries(sequences))
    test(name, () => {
      const decoder = new HpackDecoder();
      // C.5 and C.6 use a table of 256 bytes, so that it evicts.
      if (name >= "C.5") assert.deepEqual(decode(decoder, hex("3fe101")), []);
      assert.deepEqual(
        blocks.map((block) => decode(decoder, hex(block))),
        lists,
      );
    });

  test("integers (C.1), as lengths of a name", () => {
    for (const [length, prefix] of [
      [10, "000a"],
      [127, "007f00"],
      [1_337, "007fba09"],
    ] as const) {
      const block = Buffer.concat([hex(prefix), Buffer.alloc(length, 97), Buffer.from([1, 98])]);
      assert.deepEqual(decode(new HpackDecoder(), block), ["a".repeat(length), "b"]);
    }
  });
});

describe("Huffman code", () => {
  const decodeBytes = (encoded: Buffer): Buffer | undefined => {
    const into = Buffer.alloc(decodedBytesMax(encoded.length));
    const length = decodeHuffman(encoded, 0, encoded.length, into);
    return length < 0 ? undefined : into.subarray(0, length);
  };
  test("every byte, alone and beside every other", () => {
    for (let a = 0; a < 256; a++) {
      const bytes = Buffer.from(Array.from({ length: 256 }, (_, b) => [a, b]).flat());
      assert.deepEqual(decodeBytes(huffmanEncode(bytes)), bytes);
      assert.deepEqual(decodeBytes(huffmanEncode(bytes.subarray(0, 1))), bytes.subarray(0, 1));
    }
  });
  const invalid: Readonly<Record<string, string>> = {
    "the end symbol": "3fffffff".padStart(8, "f"),
    "padding of eight bits": "f8ff",
    "padding with zeros": "18",
    "padding of more than a byte": "ffff",
  };
  for (const [name, text] of Object.entries(invalid))
    test(`${name}: invalid`, () => assert.equal(decodeBytes(hex(text)), undefined));
});

describe("blocks that cannot be decoded", () => {
  const invalid: Readonly<Record<string, string>> = {
    "index 0": "80",
    "an index beyond the tables": "be",
    "a name beyond the tables": "7e0161",
    "an integer without end": "ffffffffffffff",
    "an integer of more than 28 bits": "ff8080808001",
    "a table larger than announced": "3fe21f",
    "a change of the table after a field": "8220",
    "a Huffman string with the end symbol": "0084ffffffff0161",
  };
  for (const [name, block] of Object.entries(invalid))
    test(name, () => {
      const decoder = new HpackDecoder();
      decoder.beginBlock();
      assert.equal(decoder.decode(hex(block), 0, block.length / 2, new Fields()), -1);
    });
  test("a block that ends within a field is read up to that field", () => {
    const decoder = new HpackDecoder();
    const whole = hex("82400a637573746f6d2d6b65790d637573746f6d2d686561646572");
    for (let length = 1; length < whole.length; length++) {
      const fields = new Fields();
      decoder.beginBlock();
      assert.equal(decoder.decode(whole, 0, length, fields), 1);
      assert.deepEqual(fields.list, [":method", "GET"]);
    }
  });
  test("values with control characters are marked, in literals and in the table", () => {
    const decoder = new HpackDecoder();
    for (const value of ["a\0", "a\rb", "a\n", "\x01", "\x7f"]) {
      const text = Buffer.from(value, "latin1");
      for (const encoded of [text, huffmanEncode(text)]) {
        const flag = encoded === text ? 0 : 0x80;
        const fields = new Fields();
        const block = Buffer.concat([Buffer.from([0x40, 1, 120, flag | encoded.length]), encoded, Buffer.from([0xbe])]);
        decoder.beginBlock();
        assert.equal(decoder.decode(block, 0, block.length, fields), block.length);
        assert.deepEqual(fields.invalid, ["x", "x"]);
      }
    }
  });
});

describe("encoder", () => {
  const listOf = (lines: readonly string[], names = new ResponseNames()) => ({
    names: lines.filter((_, i) => i % 2 === 0).map((name) => names.of(name)),
    values: lines.filter((_, i) => i % 2 === 1),
  });
  const lineNames = ["content-type", "date", "x-a", "x-b", "server", "set-cookie", "cache-control", "etag", "vary"];

  function randomLines(random: SeededRandom): string[] {
    return Array.from({ length: random.int(12) }, () => {
      const name = lineNames[random.int(lineNames.length)] ?? "";
      const long = random.int(40) === 0 ? random.int(3_000) : random.int(8);
      return [name, `${random.int(6)}${"v".repeat(long)}\xe9`];
    }).flat();
  }

  test("what it writes, our decoder reads, through changes of the table's size", () => {
    const random = new SeededRandom(runSeed);
    const names = new ResponseNames();
    for (let run = 0; run < 100; run++) {
      const encoder = new HpackEncoder();
      const decoder = new HpackDecoder();
      for (let n = 0; n < 60; n++) {
        if (random.int(10) === 0) encoder.resize([0, 64, 200, 4_096, 65_536][random.int(5)] ?? 0);
        const lines = randomLines(random);
        const block = Buffer.from(encoder.encode(n % 7 === 0 ? null : 200 + n, listOf(lines, names)), "latin1");
        const status = n % 7 === 0 ? [] : [":status", String(200 + n)];
        assert.deepEqual(decode(decoder, block), [...status, ...lines], `SEED=${runSeed}, run ${run}`);
      }
    }
  });

  test("a field that repeats takes a byte; one that always changes is not added for ever", () => {
    const encoder = new HpackEncoder();
    encoder.encode(200, listOf(["server", "x", "content-type", "text/html"]));
    assert.equal(encoder.encode(200, listOf(["server", "x", "content-type", "text/html"])).length, 3);
    const names = new ResponseNames();
    const changing = Array.from({ length: 200 }, (_, n) =>
      encoder.encode(200, listOf(["x-changing", String(n)], names)),
    );
    const added = changing.filter((block) => (block.charCodeAt(1) & 0xc0) === 0x40);
    assert.ok(added.length <= 32, String(added.length));
  });

  test("secrets are never added", () => {
    const encoder = new HpackEncoder();
    const block = encoder.encode(200, listOf(["set-cookie", "a=b"]));
    assert.equal(encoder.encode(200, listOf(["set-cookie", "a=b"])), block);
  });
});
