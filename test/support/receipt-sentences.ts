/**
 * Receipt sentences: the tests that prove each sentence of docs/receipts.md. test/receipts-page.test.ts checks them.
 */

/** `tests`: each entry is "file › part of the name of a test in that file". */
export type SentenceProof = Readonly<{ says: string }> & Readonly<{ tests: readonly string[] } | { untested: string }>;

export const sentenceProofs: readonly SentenceProof[] = [
  {
    says: "everything up to this change is *enforced*",
    tests: [
      "test/integration/cluster/revocation.test.ts › when a receipt is complete, every open exchange was already cut",
      "test/proxy/cut.test.ts › loses its WebSocket with close code 4401",
      "test/proxy/cut.test.ts › loses its streaming response, and no other session loses theirs",
      "test/integration/cluster/open-exchanges.test.ts › nothing sent after the complete receipt arrives on the affected exchanges of either node, and all others continue",
    ],
  },
  {
    says: "decided every open exchange again",
    tests: [
      "test/integration/cluster/revocation.test.ts › when a receipt is complete, every open exchange was already cut",
      "test/proxy/cut.test.ts › loses its WebSocket with close code 4401",
      "test/proxy/cut.test.ts › loses its streaming response, and no other session loses theirs",
      "test/integration/cluster/open-exchanges.test.ts › nothing sent after the complete receipt arrives on the affected exchanges of either node, and all others continue",
    ],
  },
  {
    says: "a cut discards the send queue of the connection",
    tests: [
      "test/attacks/kernel-queue.test.ts › HTTP/1.1: complete responses on a kept-alive connection",
      "test/attacks/kernel-queue.test.ts › HTTP/2: complete responses",
      "test/attacks/kernel-queue.test.ts › TCP tunnel",
      "test/attacks/kernel-queue.test.ts › an upload to an upstream that reads slowly",
    ],
  },
  {
    says: "Answers that were complete in the process are cut too",
    tests: [
      "test/attacks/kernel-queue.test.ts › HTTP/1.1: complete responses on a kept-alive connection",
      "test/attacks/kernel-queue.test.ts › HTTP/2: complete responses",
      "test/attacks/kernel-queue.test.ts › TCP tunnel",
      "test/attacks/kernel-queue.test.ts › an upload to an upstream that reads slowly",
    ],
  },
  {
    says: "Each applied node has its `confirmedAt`",
    tests: [
      "test/replication/lease/receipt.test.ts › an applied node has the time of its first confirmation of the change, by the leader's clock",
      "test/replication/wire/receipt-jws.test.ts › says by when the leader knew of each confirmation, and never a time after its own",
      "test/integration/regions/absent.test.ts › a receipt for a named region waits for that region, and a region without nodes gets none",
    ],
  },
  {
    says: "It never precedes the confirmation itself",
    tests: [
      "test/replication/lease/lease-granter.test.ts › a confirmation has the time at which the leader learned of it, and an older change that of the oldest kept one",
    ],
  },
  {
    says: "**regions**: every region that the leader knows",
    tests: [
      "test/replication/lease/receipt.test.ts › a receipt names every region with its nodes, its absent nodes and when it was heard from, whichever it waits for",
      "test/integration/regions/absent.test.ts › a region that is cut off is absent in status, exit code and metrics, also under the next leader",
    ],
  },
  {
    says: "A receipt that was requested in one region so says of the others",
    tests: ["test/replication/wire/receipt-jws.test.ts › says how each region was last known"],
  },
  {
    says: "A node whose projection differs from the leader's does not count",
    tests: [
      "test/broker/receipts.test.ts › a node with a diverged projection counts as applied in no receipt until it reports the right digest",
    ],
  },
  {
    says: "The leader carries that over to the epochs",
    tests: [
      "test/replication/lease/lease-granter.test.ts › in the same process keeps its findings about a node's projection and clock",
      "test/replication/lease/lease-granter.test.ts › a boot whose projection differs from the leader's enforces nothing until a renewal shows an equal one",
    ],
  },
  {
    says: "After a takeover another broker detects it",
    tests: [
      "test/replication/lease/lease-granter.test.ts › in the same process keeps its findings about a node's projection and clock",
      "test/replication/lease/lease-granter.test.ts › a boot whose projection differs from the leader's enforces nothing until a renewal shows an equal one",
    ],
  },
  {
    says: "once notified, permits nothing meanwhile",
    tests: [
      "test/integration/failover/quarantine.test.ts › a node whose projection differs from the leader's at the same link is quarantined, permits nothing, and recovers with the projection of the log",
    ],
  },
  {
    says: "its right to decide has expired by its own clock",
    tests: [
      "test/broker/receipts.test.ts › a silent node is fenced after its W and not before",
      "test/integration/cluster/fencing.test.ts › a receipt never reports a paused proxy as applied, but as fenced after W, and the proxy refuses the revoked session when it resumes",
      "test/replication/lease/lease-granter.test.ts › W covers a node whose clock is slow and a leader whose clock is fast, both by ρ",
    ],
  },
  {
    says: "it passes its kernel no more bytes of an exchange whose route denies without a lease",
    tests: [
      "test/integration/cluster/fencing.test.ts › a proxy that is cut off denies at the end of its lease or of its grace, as each route says, and then fences itself",
      "test/proxy/enforce/exchanges.test.ts › permits within the route's grace after the lease has expired, and not beyond it",
    ],
  },
  {
    says: "its kernel has discarded what it held",
    tests: ["test/attacks/frozen-node.test.ts › the kernel of a killed node sends nothing"],
  },
  {
    says: "its kernel sends what it already held: at most 80 KiB",
    tests: [
      "test/attacks/frozen-node.test.ts › a node that wakes after its lease sends at most what it had queued",
      "test/attacks/frozen-node.test.ts › the kernel of a frozen node sends what it held, at most the stated bound",
      "test/attacks/kernel-queue.test.ts › the kernel holds at most the stated bound for a connection",
      "test/replication/wire/receipt-jws.test.ts › promises that no byte is carried, and with a fenced node mentions what a kernel may still send",
    ],
  },
  {
    says: "On waking, the process may also write what it had queued",
    tests: [
      "test/attacks/frozen-node.test.ts › a node that wakes after its lease sends at most what it had queued",
      "test/attacks/frozen-node.test.ts › the kernel of a frozen node sends what it held, at most the stated bound",
      "test/attacks/kernel-queue.test.ts › the kernel holds at most the stated bound for a connection",
      "test/replication/wire/receipt-jws.test.ts › promises that no byte is carried, and with a fenced node mentions what a kernel may still send",
    ],
  },
  {
    says: "**unconfirmed**: neither",
    tests: [
      "test/broker/receipts.test.ts › at its timeout a receipt names the missing node and the time until its fence",
      "test/replication/lease/receipt.test.ts › a receipt will be complete when the last node that it waits for is fenced",
    ],
  },
  {
    says: "**complete**: every node that the receipt waits for",
    tests: [
      "test/replication/lease/receipt.test.ts › a receipt is complete exactly if each node that it waits for has confirmed the position or is fenced",
      "test/replication/lease/receipt.test.ts › a receipt for a region waits for that region's nodes and lists all nodes",
    ],
  },
  {
    says: "The receipt's promise states what follows",
    tests: [
      "test/console/api/operator-receipts.test.ts › a receipt claims no more than the change does: a person removed from a group keeps access by other rights",
      "test/replication/wire/receipt-jws.test.ts › promises that no byte is carried, and with a fenced node mentions what a kernel may still send",
    ],
  },
  {
    says: "With a fenced node every promise ends in",
    tests: [
      "test/replication/wire/receipt-jws.test.ts › mentions what the kernel of a fenced node may still send, for any kind of change",
    ],
  },
  { says: "**Leases of a lost history.**", untested: "introduces the sentences behind it" },
  {
    says: "can lose the newest leases together with the newest events",
    tests: [
      "test/integration/failover/lost-lessees.test.ts › after the promotion of an asynchronous standby that lacks a node's lease",
      "test/integration/failover/lost-lessees.test.ts › after a file log is replaced by an older copy",
    ],
  },
  {
    says: "the receipt has a line `@unknown-nodes`",
    tests: [
      "test/replication/lease/lost-history.test.ts › receipts of every region wait for a lost history",
      "test/integration/failover/lost-lessees.test.ts › no receipt is complete before the window of that node has passed, and the receipt names it",
    ],
  },
  {
    says: "That window is the longer of `broker.max_window`",
    tests: [
      "test/replication/lease/lost-history.test.ts › receipts of every region wait for a lost history",
      "test/integration/failover/lost-lessees.test.ts › no receipt is complete before the window of that node has passed, and the receipt names it",
    ],
  },
  {
    says: "It represents any node",
    tests: [
      "test/replication/lease/lost-history.test.ts › receipts of every region wait for a lost history",
      "test/integration/failover/lost-lessees.test.ts › no receipt is complete before the window of that node has passed, and the receipt names it",
    ],
  },
  {
    says: "Nodes that the broker has heard of but has no lease for",
    tests: [
      "test/integration/failover/lost-lessees.test.ts › no receipt is complete before the window of that node has passed, and the receipt names it",
    ],
  },
  {
    says: "A complete receipt has waited for all of them.",
    tests: [
      "test/integration/failover/lost-lessees.test.ts › no receipt is complete before the window of that node has passed, and the receipt names it",
    ],
  },
  { says: "These prove that no lease was lost", untested: "introduces the sentences behind it" },
  {
    says: "the same run of the same server as when the previous epoch was opened",
    tests: [
      "test/integration/postgres-continuity.test.ts › no lease is lost for another broker on the same running server",
      "test/integration/postgres-continuity.test.ts › after a clean restart of the server, the broker that led before continues at once, and another broker waits",
    ],
  },
  {
    says: "the same file on the same boot of the machine",
    tests: [
      "test/integration/failover/lost-lessees.test.ts › after a restart on the same file log, a broker waits for no lost lease",
    ],
  },
  {
    says: "A promotion never proves it",
    tests: [
      "test/integration/postgres-continuity.test.ts › a promoted standby is on another timeline at once, even before its first checkpoint",
      "test/integration/postgres-continuity.test.ts › after a crash of the server every broker waits",
    ],
  },
  { says: "has the exact evidence", untested: "refers to another page" },
  { says: "`durability` says how safely the change was stored", untested: "introduces the sentences behind it" },
  { says: "| | | |---|---|", untested: "introduces the sentences behind it" },
  {
    says: "at as many of the standbys in `synchronous_standby_names` as commits wait for",
    tests: [
      "test/replication/log/durability.test.ts › an event is synchronous once enough of the named standbys have flushed up to the end",
      "test/replication/log/durability.test.ts › a standby with two connections counts once, by the lower of its positions",
      "test/integration/durability.test.ts › a failover to the standby loses no event reported as synchronous, and loses the commit that was released early",
    ],
  },
  {
    says: "| `asynchronous` | Postgres, without that evidence",
    tests: [
      "test/replication/log/durability.test.ts › without names, or with commits that wait for no standby, an event is asynchronous at once",
      "test/integration/durability.test.ts › a role that cannot see the standbys' positions reports nothing as synchronous, and logs why",
    ],
  },
  {
    says: "A failover may lose the change.",
    tests: ["test/integration/failover/asynchronous.test.ts › events that no standby had are lost"],
  },
  {
    says: "requested later becomes `synchronous` once the standbys have the change",
    tests: [
      "test/integration/durability.test.ts › a commit that emptied names released is asynchronous, even after they are set again, until a standby has it",
    ],
  },
  {
    says: "| `local` | the `file` store",
    tests: [
      "test/integration/sqlite-log.test.ts › a log whose writer is killed repeatedly during appends stays dense and keeps every acknowledged batch",
    ],
  },
  { says: "| `volatile` | the `memory` store", untested: "names what is not promised" },
  {
    says: "depends on what the standbys hold, never on a setting",
    tests: [
      "test/integration/durability.test.ts › a commit that emptied names released is asynchronous, even after they are set again, until a standby has it",
      "test/integration/durability.test.ts › names emptied and set again before any session reads them make no commit synchronous",
    ],
  },
  {
    says: "A commit that Postgres released because the names were emptied",
    tests: [
      "test/integration/durability.test.ts › a commit that emptied names released is asynchronous, even after they are set again, until a standby has it",
      "test/integration/durability.test.ts › names emptied and set again before any session reads them make no commit synchronous",
    ],
  },
  {
    says: "Each request checks it anew",
    tests: [
      "test/integration/failover/emptied-names.test.ts › a revocation released by emptied standby names is complete and asynchronous, and lost after a failover; a synchronous one survives",
    ],
  },
  {
    says: "`complete` means the same with each of them.",
    tests: ["test/integration/failover/emptied-names.test.ts › is complete and asynchronous"],
  },
  {
    says: "it assumes that the primary was not replaced while it was still running",
    untested: "names what is not promised",
  },
  {
    says: "A receipt that is `lost`, or that a build without this field signed",
    tests: [
      "test/replication/wire/receipt-jws.test.ts › from an older build, which promised less, is still verified",
      "test/replication/lease/receipt.test.ts › a command that is not in the log is lost and never complete",
    ],
  },
  {
    says: "shows the durability of the log's head",
    tests: ["test/integration/failover/asynchronous.test.ts › events that no standby had are lost"],
  },
  { says: "**Nothing of your change, where there was none to make.**", untested: "introduces the sentences behind it" },
  {
    says: "gets the newest position of the log",
    tests: ["test/broker/receipts.test.ts › a revocation of an already revoked session has a receipt too"],
  },
  {
    says: "It covers the earlier revocation",
    tests: ["test/broker/receipts.test.ts › a revocation of an already revoked session has a receipt too"],
  },
  {
    says: "To show the earlier one, request its own receipt",
    tests: ["test/broker/receipts.test.ts › a revocation of an already revoked session has a receipt too"],
  },
  { says: "**Nothing of what an upstream did", untested: "names what is not promised" },
  { says: "**Nothing of bytes that have left the machine.**", untested: "names what is not promised" },
  { says: "The caller owns what its kernel has received", untested: "names what is not promised" },
  { says: "Bytes already in the network arrive", untested: "names what is not promised" },
  { says: "**Nothing of what a kernel holds on systems other than Linux**", untested: "names what is not promised" },
  {
    says: "Such a node logs `this node cannot read or bound",
    tests: ["test/attacks/without-ffi.test.ts › the node warns at start-up"],
  },
  { says: "**Nothing of the proxy's own pages**", untested: "names what is not promised" },
  {
    says: "such nodes are marked `decision-only`",
    tests: [
      "test/replication/lease/receipt.test.ts › a node that only answers decisions for another proxy is reported as decision-only",
    ],
  },
  {
    says: "They deny the next request",
    tests: [
      "test/replication/lease/receipt.test.ts › a node that only answers decisions for another proxy is reported as decision-only",
    ],
  },
  { says: "**Nothing of upstreams that accept an assertion longer", untested: "names what is not promised" },
  { says: "**That the person stays out.**", untested: "introduces the sentences behind it" },
  {
    says: "A person whose sessions are revoked may sign in again",
    tests: [
      "test/integration/cluster/revocation.test.ts › revoking a user ends all their sessions with one event, and a new sign-in works",
    ],
  },
  {
    says: "A person removed from a group keeps what other rights give",
    tests: ["test/console/api/operator-receipts.test.ts › a person removed from a group keeps access by other rights"],
  },
  { says: "**That the log cannot lose it**", untested: "names what is not promised" },
  {
    says: "Brokers detect lost revocations and record them again",
    tests: [
      "test/integration/failover/asynchronous.test.ts › revocations among them stay in force",
      "test/broker/takeover.test.ts › revocations that only the broker had read return to the log after a restore to before them",
    ],
  },
  { says: "**That a machine computes as it should.**", untested: "introduces the sentences behind it" },
  { says: "`applied` is a node's own statement", untested: "names what is not promised" },
  {
    says: "shows once a second that its fold equals the leader's",
    tests: [
      "test/integration/failover/quarantine.test.ts › a node whose projection differs from the leader's at the same link is quarantined, permits nothing, and recovers with the projection of the log",
    ],
  },
  {
    says: "may count in receipts until its next renew",
    tests: [
      "test/integration/failover/quarantine.test.ts › a node whose projection differs from the leader's at the same link is quarantined, permits nothing, and recovers with the projection of the log",
    ],
  },
  {
    says: "From then on it counts in none",
    tests: [
      "test/integration/failover/quarantine.test.ts › a node whose projection differs from the leader's at the same link is quarantined, permits nothing, and recovers with the projection of the log",
    ],
  },
  { says: "**That no holder of `shared_secret` lied.**", untested: "introduces the sentences behind it" },
  {
    says: "was not altered since, not that the cluster was honest",
    tests: [
      "test/replication/wire/receipt-jws.test.ts › that was altered anywhere is refused",
      "test/replication/wire/receipt-jws.test.ts › is signed with a key of its own, not with one that signs broker or node messages",
    ],
  },
  {
    says: "The signing key is derived from that secret",
    tests: [
      "test/replication/wire/receipt-jws.test.ts › that was altered anywhere is refused",
      "test/replication/wire/receipt-jws.test.ts › is signed with a key of its own, not with one that signs broker or node messages",
    ],
  },
  { says: "The secret is not enough to confirm or say goodbye", untested: "introduces the sentences behind it" },
  {
    says: "A broker accepts those only from the key that the node's boot id names",
    tests: [
      "test/broker/receipts.test.ts › a confirmation that is forged, replayed, altered or of another history does not count",
      "test/broker/receipts.test.ts › a goodbye in another node's name releases no boot",
    ],
  },
  {
    says: "A receipt contains no names",
    tests: [
      "test/replication/wire/receipt-jws.test.ts › holds no names and no e-mail addresses, only ids, times and positions",
    ],
  },
  { says: "A request that it permitted right before it froze", untested: "names what is not promised" },
  {
    says: "A receipt with a fenced node says so in its promise",
    tests: [
      "test/replication/wire/receipt-jws.test.ts › mentions what the kernel of a fenced node may still send, for any kind of change",
    ],
  },
  {
    says: "A node that keeps renewing its lease but cannot read the log is never fenced",
    untested: "names what is not promised",
  },
  {
    says: "It permits nothing once its own window has passed",
    tests: [
      "test/integration/cluster/fencing.test.ts › a proxy that is cut off denies at the end of its lease or of its grace, as each route says, and then fences itself",
    ],
  },
  {
    says: "With `wait: region` these are the nodes of that region",
    tests: [
      "test/replication/lease/receipt.test.ts › a receipt for a region waits for that region's nodes and lists all nodes",
    ],
  },
  {
    says: "With `none` they are all nodes",
    tests: ["test/replication/lease/receipt.test.ts › `wait: none` does not make a receipt complete"],
  },
  {
    says: "**Nothing of a machine that was frozen together with both of its clocks**",
    untested: "names what is not promised",
  },
  {
    says: "When it wakes up, its clocks show no elapsed time",
    tests: [
      "test/integration/cluster/clocks.test.ts › after a freeze that none of its own clocks counted, the node notices it by the leader's clock and waits for a new grant",
    ],
  },
  {
    says: "So it may permit what was revoked meanwhile",
    tests: [
      "test/integration/cluster/clocks.test.ts › after a freeze that none of its own clocks counted, the node notices it by the leader's clock and waits for a new grant",
    ],
  },
  { says: "It does not notice a freeze of less than about half a second", untested: "names what is not promised" },
  { says: "Do not freeze nodes", untested: "names what is not promised" },
  {
    says: "**Nothing of a machine that was cloned together with its memory.**",
    untested: "names what is not promised",
  },
  { says: "A new process on the clone can prove", untested: "names what is not promised" },
  {
    says: "Receipts do not wait for the original until it sends",
    tests: [
      "test/replication/lease/lease-granter.test.ts › a replaced boot that renews is alive: it counts again, gets a row before its next grant, and is not replaced again",
    ],
  },
  {
    says: "Its cuts still reset HTTP/1.1 connections and tunnels",
    tests: [
      "test/attacks/without-ffi.test.ts › a cut resets an HTTP/1.1 connection, and the kernel discards what it holds",
    ],
  },
  {
    says: "For a cut WebSocket that gets a close frame",
    tests: ["test/attacks/without-ffi.test.ts › a cut resets only the HTTP/2 stream, after what the kernel holds"],
  },
  { says: "They do not recover other lost changes", untested: "names what is not promised" },
  {
    says: "The receipt of such a change, requested again, is `lost`",
    tests: ["test/integration/failover/asynchronous.test.ts › old receipts say lost"],
  },
  {
    says: "A receipt that is requested in a region without a connection to the home region",
    tests: [
      "test/console/api/operator-unavailable.test.ts › a receipt requested in a region that is cut off is never complete: the answer names its nodes, and every region as last known with its age",
      "test/console/api/operator-unavailable.test.ts › a stream that has begun ends with the last-known state when the region is cut off",
    ],
  },
  {
    says: "The status stays 503, because a client",
    tests: [
      "test/console/api/operator-unavailable.test.ts › a receipt requested in a region that is cut off is never complete: the answer names its nodes, and every region as last known with its age",
    ],
  },
  {
    says: "`lastKnown` is no receipt: it is not signed",
    tests: [
      "test/console/api/operator-unavailable.test.ts › a receipt requested in a region that is cut off is never complete: the answer names its nodes, and every region as last known with its age",
      "test/console/api/operator-unavailable.test.ts › the command line prints the last-known state, with a name of another region too, and exits with 3",
    ],
  },
  {
    says: "It does not say whether the change that you named is in the log",
    tests: [
      "test/console/api/operator-unavailable.test.ts › a receipt requested in a region that is cut off is never complete: the answer names its nodes, and every region as last known with its age",
    ],
  },
  { says: "Only the leader knows which nodes may decide", untested: "the reason for the sentence before" },
  { says: "| field | meaning |", untested: "the head of a table" },
  {
    says: "| `region`, `at` | the region of the server that answered",
    tests: [
      "test/console/api/operator-unavailable.test.ts › a receipt requested in a region that is cut off is never complete: the answer names its nodes, and every region as last known with its age",
    ],
  },
  {
    says: "| `homeSilentMs`, `leasesUntil` |",
    tests: [
      "test/console/api/operator-unavailable.test.ts › a receipt requested in a region that is cut off is never complete: the answer names its nodes, and every region as last known with its age",
      "test/broker/region/regional-broker.test.ts › the status of a region that is cut off says until when leases by age count, and how the regions were last known",
    ],
  },
  {
    says: "| `broker` | the regional broker that answered",
    tests: [
      "test/console/api/operator-unavailable.test.ts › the command line prints the last-known state, with a name of another region too, and exits with 3",
    ],
  },
  {
    says: "| `nodes` | the nodes of the region that renew through this broker",
    tests: [
      "test/console/api/operator-unavailable.test.ts › a receipt requested in a region that is cut off is never complete: the answer names its nodes, and every region as last known with its age",
    ],
  },
  {
    says: "Nodes that renew through another broker of the region are not listed",
    tests: [],
  },
  {
    says: "| `reported` | the leader's last report about all regions",
    tests: [
      "test/console/api/operator-unavailable.test.ts › a receipt requested in a region that is cut off is never complete: the answer names its nodes, and every region as last known with its age",
    ],
  },
  {
    says: "For each region: how many brokers and nodes it had",
    tests: [
      "test/console/api/operator-unavailable.test.ts › a receipt requested in a region that is cut off is never complete: the answer names its nodes, and every region as last known with its age",
      "test/console/api/operator-unavailable.test.ts › the command line prints the last-known state, with a name of another region too, and exits with 3",
    ],
  },
  {
    says: "Null: this broker has had no report",
    tests: [
      "test/console/api/operator-unavailable.test.ts › a region that was told nothing of the others says so, and one that an older leader told names no positions",
    ],
  },
  {
    says: "A position at or past that of your link",
    untested: "a suggestion, which the next sentence takes back as a promise",
  },
  {
    says: "It proves nothing: the link may not be in the log",
    tests: [
      "test/console/api/operator-unavailable.test.ts › a receipt requested in a region that is cut off is never complete: the answer names its nodes, and every region as last known with its age",
    ],
  },
  { says: "Request the receipt again once the region is connected", untested: "advice" },
  {
    says: "For a change that the region accepted by itself, the next section",
    tests: ["test/cli/commands/local-change.test.ts › the command line says that one region accepted it"],
  },
  {
    says: "The databroker API answers 503 with the code alone",
    tests: [
      "test/broker/region/cut-off-commands.test.ts › are refused at once, with a code and as certainly not accepted; so are receipts and snapshots",
      "test/broker/region/regional-broker.test.ts › the status of a region that is cut off says until when leases by age count, and how the regions were last known",
    ],
  },
];
