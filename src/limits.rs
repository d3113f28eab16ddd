//! Every bound in one place, with its arithmetic, and the relations between them checked at compile time.
//!
//! A bound that a user may change has its default, its least and its greatest value here; `config` refuses
//! what lies outside. The rest are facts of the protocol or of memory planning.

mod client;
mod http;
mod lists;
mod store;

use std::time::Duration;

pub use client::*;
pub use http::*;
pub use lists::*;
pub use store::*;

// ---------------------------------------------------------------- wire

/// Bytes of a frame's fixed header.
pub const FRAME_HEADER_BYTES: usize = 16;
/// Largest body that a frame may announce. Leaves room for schemas to come; 1,000 of them are 1 MB.
pub const FRAME_BODY_BYTES_MAX: usize = 1_024;
/// Largest whole frame.
pub const FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + FRAME_BODY_BYTES_MAX;
/// Frames that are read from one datagram; the rest of it is refused and counted.
pub const FRAMES_PER_DATAGRAM_MAX: usize = 16;
/// Largest control message, without its four bytes of length.
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 16 * 1_024;
/// Oldest frame that still counts for history and the arrival window.
pub const FRAME_AGE_MAX: Duration = Duration::from_secs(24 * 3_600);

// ---------------------------------------------------------------- heartbeats and sweep

/// Heartbeat interval in production.
pub const INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
/// Shortest heartbeat interval that can be asked for.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest heartbeat interval that can be asked for.
pub const INTERVAL_MAX: Duration = Duration::from_secs(300);
/// Time between two sweeps.
pub const CADENCE_DEFAULT: Duration = Duration::from_secs(1);
/// Shortest time between two sweeps.
pub const CADENCE_MIN: Duration = Duration::from_millis(100);
/// Longest time between two sweeps: the promise "at most one cadence late" must stay worth having.
pub const CADENCE_MAX: Duration = Duration::from_secs(10);
/// Sensors send a keep-alive when their interval is longer than this: home and plant routers forget a
/// silent UDP flow after 30 s and more.
pub const KEEP_ALIVE: Duration = Duration::from_secs(20);

// ---------------------------------------------------------------- transport

/// One constant for all connections: three times the largest interval, so that a slow sensor is never
/// cut off by the transport; the session's own liveness follows the real interval.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3 * 300);
/// A handshake that takes longer is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Shards that one server can have: the connection id carries the shard in one byte.
pub const SHARDS_MAX: usize = 255;
/// Connections of one shard by default. At 19 KB each: 1.9 GB.
pub const CONNECTIONS_PER_SHARD_DEFAULT: usize = 100_000;
/// Most connections of one shard.
pub const CONNECTIONS_PER_SHARD_MAX: usize = 1_000_000;
/// Half-open handshakes of one shard above which a client must prove its address first (Retry).
pub const HALF_OPEN_RETRY: usize = 128;
/// Half-open handshakes of one shard above which an Initial is dropped without an answer.
pub const HALF_OPEN_MAX: usize = 1_024;
/// Sources of half-open handshakes that one shard has room to count: twice as many as there can be, so that the
/// table never grows. 17 bytes each and a free place beside it: 70 KB.
pub const HALF_OPEN_SOURCES: usize = 2 * HALF_OPEN_MAX;
/// Bytes buffered for one connection attempt that is not accepted yet.
pub const INCOMING_BUFFER_BYTES: u64 = 16 * 1_024;
/// Bytes buffered for all connection attempts of one shard.
pub const INCOMING_BUFFER_BYTES_TOTAL: u64 = 8 * 1_024 * 1_024;
/// Window of a stream, fixed at accept, before the peer's class is known.
pub const STREAM_WINDOW_BYTES: u32 = 1_024 * 1_024;
/// Connection window before the peer is known: nothing to buffer but control replies.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 * 1_024;
/// Connection window of a gateway, within the global budget.
pub const GATEWAY_WINDOW_BYTES: u32 = 2 * 1_024 * 1_024;
/// Windows of all gateways of one shard together.
pub const GATEWAY_WINDOW_BYTES_TOTAL: u64 = 512 * 1_024 * 1_024;
/// Datagrams waiting in one connection: one receive batch at most, drained at once.
pub const DATAGRAM_RECEIVE_BUFFER_BYTES: usize = 32 * 1_024;
/// What we ask the kernel for; it grants what `net.core.rmem_max` allows and we export what we got.
pub const SOCKET_BUFFER_BYTES: usize = 4 * 1_024 * 1_024;
/// Commands waiting in one shard's inbox. Beyond it the sender is told, and tries again.
pub const SHARD_INBOX: usize = 4_096;

/// Largest UDP payload that is taken: an Ethernet frame's. Each receive buffer is 64 of it (GRO).
pub const UDP_PAYLOAD_BYTES_MAX: u16 = 1_472;
/// Time between two stateless resets of one shard: 5,000 a second tell a herd of 100,000 within one interval
/// or two that a killed server lost their connections, for at most 3 % of a core.
pub const RESET_EVERY: Duration = Duration::from_micros(200);
/// Our stream data of one connection that is not acknowledged yet: a few control messages.
pub const CONTROL_SEND_WINDOW_BYTES: u64 = 64 * 1_024;
/// Datagrams of ours waiting in one connection. We send none today; must hold one.
pub const DATAGRAM_SEND_BUFFER_BYTES: usize = 4 * 1_024;
/// Handshake data of one connection that came out of order: a client's certificate chain.
pub const HANDSHAKE_BUFFER_BYTES: usize = 16 * 1_024;
/// Handshake steps (accepting, verifying) of one turn of a shard's loop: at 350 µs each, sensors that are
/// connected wait at most 3 ms for a storm of those that want to be.
pub const HANDSHAKE_STEPS_PER_TURN: usize = 8;
/// Packets of unfinished handshakes that wait for their turn, in one shard.
pub const HANDSHAKE_QUEUE: usize = 4 * HALF_OPEN_MAX;
/// Receive batches (32 packets each) of one turn of a shard's loop.
pub const BATCHES_PER_TURN: usize = 8;
/// Longest time for which a shard lets packets gather before it reads on.
pub const GATHER_MAX: Duration = Duration::from_millis(4);
/// It does so only where this many can be expected to have come by then.
pub const GATHER_PACKETS_MIN: u32 = 2;
/// Commands taken from the inbox in one turn of a shard's loop.
pub const COMMANDS_PER_TURN: usize = 256;
/// Packets that one connection may send in one turn of a shard's loop.
pub const SENDS_PER_TURN: usize = 16;
/// Answers without a connection (Retry, reset, refusal) that wait while the socket's buffer is full.
pub const ANSWERS_WAITING_MAX: usize = 256;
/// Peers whose last log line is remembered, in one shard.
pub const LOG_PEERS_MAX: usize = 4_096;
/// Control messages of one connection that wait for their answer.
pub const CONTROLS_PER_CONNECTION: usize = 8;
/// How long a control message may wait for its answer.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
/// A sensor that still keeps another interval than the wanted one is told again after this long: twice the longest
/// interval, so its heartbeats had time to say that it took the last word.
pub const INTERVAL_TOLD_AGAIN: Duration = Duration::from_secs(2 * INTERVAL_MAX.as_secs());
/// A draining server gives a sensor this long to take the come-back hint.
pub const COME_BACK_TIMEOUT: Duration = Duration::from_secs(1);
/// A session that heard nothing for this long, and for three of its sensor's intervals, is dropped.
pub const SESSION_SILENCE_MIN: Duration = Duration::from_secs(60);
/// Time in which every session of a shard is looked at once: silence, expiry, stalled streams.
pub const SESSION_ROUND: Duration = Duration::from_secs(4);
/// Sensors that one gateway session remembers the slots of.
pub const GATEWAY_SENSORS_MAX: usize = 65_536;
/// Connections of the enrolment port between their handshake and their end, of all sources.
pub const ENROL_CONNECTIONS_MAX: usize = 1_024;
/// Connections of the enrolment port that are over, and of which QUIC keeps the words of farewell for late packets. Of
/// more the oldest are forgotten: their late packets get a stateless reset.
pub const ENROL_CLOSING_MAX: usize = 512;
/// What the enrolment port holds at most: connections, handshakes and farewells beside each other, so that who has its
/// share of each takes none of the others'. At 19 KB: 49 MB.
pub const ENROL_PLACES_MAX: usize = ENROL_CONNECTIONS_MAX + HALF_OPEN_MAX + ENROL_CLOSING_MAX;
/// Largest request or answer on the enrolment port, without its four bytes of length: a chain of a few certificates
/// and a signing request, or a chain and a trust bundle of [`TRUST_ROOTS_MAX`] roots.
pub const ENROL_MESSAGE_BYTES_MAX: usize = 32 * 1_024;
/// Certificates in a request to renew: the peer's, the intermediate's, and room for another level.
pub const ENROL_CHAIN_MAX: usize = 4;
/// Bytes of the version that an enrolling program says.
pub const ENROL_VERSION_BYTES_MAX: usize = 64;
/// Bytes of the detail of a refusal.
pub const ENROL_DETAIL_BYTES_MAX: usize = 512;
/// How long one connection to the enrolment port may take from its handshake to its end.
pub const ENROL_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests that wait for the enrolment thread. Beyond it the answer is "busy". At a few milliseconds each (one durable
/// write) the last waits less than a second.
pub const ENROL_QUEUE: usize = 128;
/// Idle timeout of the enrolment port.
pub const ENROL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

// ---------------------------------------------------------------- budgets of one connection

/// Frames a sensor may send at once, and how many come back each second.
pub const SENSOR_FRAMES_BURST: u32 = 2_000;
/// Frames a sensor may send each second, for ever. Fifty times the shortest interval's rate.
pub const SENSOR_FRAMES_PER_SECOND: u32 = 500;
/// Frames a gateway may send each second, for ever.
pub const GATEWAY_FRAMES_PER_SECOND: u32 = 1_000_000;
/// Refused frames (malformed, not covered) after which a connection is closed.
pub const REFUSED_FRAMES_MAX: u32 = 32;
/// How long a gateway's stream may hold an unfinished frame.
pub const PARTIAL_FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that never acknowledges our ACKs makes us keep records of them; we send it something that must
/// be acknowledged after this many received packets. Far below quinn-proto's own 1,000 (`quic.md` 1.5).
pub const ACK_ELICIT_EVERY_PACKETS: u32 = 256;
/// How long a sensor that lost its slot to another connection of the same identity waits.
pub const REPLACED_BACK_OFF: Duration = Duration::from_secs(180);

// ---------------------------------------------------------------- sensors

/// A sensor gives a connection up after this much silence of the server, keep-alives included; so a dead
/// server is noticed within a minute whatever the interval. A restarted one is noticed at once (reset).
pub const SENSOR_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A sensor's own patience with a handshake: the server may have a herd to serve first.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// First and largest wait before connecting again; doubled from one to the other, and jittered whole.
pub const BACK_OFF_FIRST: Duration = Duration::from_secs(1);
/// See [`BACK_OFF_FIRST`].
pub const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// Wait after a refusal that only a person can lift (revoked, not in the register, not active).
pub const REFUSED_BACK_OFF: Duration = Duration::from_secs(60);
/// Longest "come back in" that a sensor obeys.
pub const COME_BACK_MAX: Duration = Duration::from_secs(3_600);
/// A connection that lasted this long was good: the next back-off starts from the first again.
pub const CONNECTION_PROVEN: Duration = Duration::from_secs(10);
/// Heartbeats that a sensor keeps while it has no connection: an hour at the production interval, 120 KB.
pub const BACKLOG_FRAMES: usize = 360;
/// Bytes of batches that a gateway keeps while it has no connection, or while the server is slow.
pub const GATEWAY_BACKLOG_BYTES: usize = 4 * 1_024 * 1_024;
/// Bytes that a sensor's connection buffers for sending, and for control messages coming in.
pub const SENSOR_BUFFER_BYTES: u32 = 64 * 1_024;
/// Bytes that a sensor may always have in flight: heartbeats of 330 bytes, one a second, and probes, until the
/// connection is given up ([`SENSOR_IDLE_TIMEOUT`]).
pub const SENSOR_WINDOW_BYTES_MIN: u64 = 32 * 1_024;
/// Most bytes that a sensor may have in flight: all that it keeps during an outage.
pub const SENSOR_WINDOW_BYTES_MAX: u64 = 128 * 1_024;
/// Control streams that a server may have open to one sensor at once.
pub const CONTROL_STREAMS_MAX: u32 = 4;
/// A control exchange that takes longer is given up.
pub const CONTROL_STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a planned goodbye may take to be acknowledged.
pub const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

// ---------------------------------------------------------------- the demonstration

/// Simulated sensors when nobody says how many.
pub const DEMO_SENSORS_DEFAULT: u32 = 1_000;
/// Simulated sensors of one demonstration. Both ends of a connection are in one process, at about 100 KB together.
pub const DEMO_SENSORS_MAX: u32 = 20_000;
/// Longest demonstration that can be asked for.
pub const DEMO_DURATION_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Transitions that a demonstration remembers for its truth table, at about 100 bytes each.
pub const DEMO_TRANSITIONS_MAX: usize = 1 << 20;
/// Times in doubt that a demonstration remembers.
pub const DEMO_DOUBTS_MAX: usize = 4_096;
/// Log lines that wait while the screen is drawn; older ones are left out and counted.
pub const DEMO_LOG_LINES_MAX: usize = 500;
// ---------------------------------------------------------------- load

/// Sensors of one load: what one machine's memory and ports can play.
pub const LOAD_SENSORS_MAX: usize = 1_000_000;
/// Threads that drive them.
pub const LOAD_THREADS_MAX: usize = 64;

// ---------------------------------------------------------------- the agent

/// Largest configuration file of the agent.
pub const AGENT_CONFIG_BYTES_MAX: u64 = 256 * 1_024;
/// Monitored interfaces of one sensor.
pub const AGENT_INTERFACES_MAX: usize = 64;
/// Servers of one kind (our own, time, directory) that can be configured.
pub const AGENT_SERVERS_MAX: usize = 16;
/// Words of a configured command.
pub const AGENT_COMMAND_WORDS_MAX: usize = 64;
/// Self-tests: one bit each in a heartbeat.
pub const SELF_TESTS_MAX: usize = 32;
/// A certificate whose renewal was refused is asked for again after this long: only a person can lift the reason.
pub const ENROL_AGAIN_AFTER_REFUSAL: Duration = Duration::from_secs(600);
/// Time between two checks of endpoints, time servers and directory servers.
pub const CHECK_EVERY_DEFAULT: Duration = Duration::from_secs(60);
/// See [`CHECK_EVERY_DEFAULT`].
pub const CHECK_EVERY_MIN: Duration = Duration::from_secs(1);
/// See [`CHECK_EVERY_DEFAULT`].
pub const CHECK_EVERY_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Time that a check may take: once for the name, once for the rest.
pub const CHECK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// See [`CHECK_TIMEOUT_DEFAULT`].
pub const CHECK_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// See [`CHECK_TIMEOUT_DEFAULT`].
pub const CHECK_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Time between two runs of a self-test or backup.
pub const JOB_EVERY_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
/// See [`JOB_EVERY_DEFAULT`].
pub const JOB_EVERY_MIN: Duration = Duration::from_secs(1);
/// See [`JOB_EVERY_DEFAULT`].
pub const JOB_EVERY_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Time that a self-test or backup may take.
pub const JOB_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Certificates of connected peers that are renewed in one round of questions and answers.
pub const RENEWALS_AT_ONCE: usize = 64;
/// Connected peers that wait for a renewal; those beyond are reported again later.
pub const RENEWALS_WAITING: usize = 4 * RENEWALS_AT_ONCE;
/// A peer whose certificate was not renewed is reported again after a tenth of what is left of it, and this at least.
pub const RENEWAL_AGAIN_MIN: Duration = Duration::from_secs(1);
/// One that still uses an older trust bundle is reported again after this long.
pub const TRUST_TOLD_AGAIN: Duration = Duration::from_secs(60);
/// Refused enrolments of strangers that are kept in memory, and as many of sensors; about 200 bytes each.
pub const REFUSED_KEPT: usize = 256;
/// Sensors whose refused enrolments are counted, so that they are noted only now and then.
pub const ATTEMPT_SENSORS_MAX: usize = 4_096;
/// Refused enrolments of one sensor that are noted at once ...
pub const ATTEMPTS_NOTED_AT_ONCE: u32 = 8;
/// ... and how long it takes until one more is.
pub const ATTEMPTS_NOTED_EVERY: Duration = Duration::from_secs(600);
/// Refused enrolments that are noted in one minute, of all sensors: each is an entry of the audit log.
pub const ATTEMPTS_PER_MINUTE_MAX: u32 = 60;
/// Time between two looks at disks, temperature and status file.
pub const LOCAL_CHECK_EVERY: Duration = Duration::from_secs(2);
/// A disk that takes longer is reported as unknown until it answers.
pub const LOCAL_CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest file of `/proc` that is read: a host with thousands of interfaces.
pub const PROC_FILE_BYTES_MAX: u64 = 4 * 1_024 * 1_024;
/// Temperature sensors, chips or zones that are looked at.
pub const TEMPERATURE_SENSORS_MAX: usize = 256;
/// Largest status file.
pub const STATUS_FILE_BYTES_MAX: u64 = 64 * 1_024;
/// Largest file of trusted roots.
pub const CA_FILE_BYTES_MAX: u64 = 8 * 1_024 * 1_024;
/// Longest head of a proxy's answer.
pub const PROXY_ANSWER_BYTES_MAX: usize = 8 * 1_024;
/// Addresses of one name that are tried.
pub const RESOLVED_ADDRESSES_MAX: usize = 8;

// ---------------------------------------------------------------- certificates and tickets

/// Life of the root: as long as a sensor may hang on a wall.
pub const ROOT_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);
/// Life of the intermediate, renewed when a quarter of it is left.
pub const INTERMEDIATE_LIFE: Duration = Duration::from_secs(4 * 365 * 86_400);
/// Life of the server's own certificate, renewed at start when a third of it is left.
pub const SERVER_CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// For how long a certificate that ran out may be renewed, when nobody asks for another time.
pub const RENEWAL_GRACE: Duration = Duration::from_secs(90 * 86_400);
/// Longest such time.
pub const RENEWAL_GRACE_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);
/// How far a sensor's clock may be from the server's when it enrols.
pub const CLOCK_DRIFT_MAX: Duration = Duration::from_secs(120);
/// Shortest life of a certificate that can be asked for.
pub const PEER_CERTIFICATE_LIFE_MIN: Duration = Duration::from_secs(10);
/// Life of a sensor's or gateway's certificate when nobody asks for another.
pub const PEER_CERTIFICATE_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// Longest life of a sensor's or gateway's certificate that can be asked for.
pub const PEER_CERTIFICATE_LIFE_MAX: Duration = Duration::from_secs(366 * 86_400);
/// A certificate starts this long before it is made, for clocks that run late.
pub const CERTIFICATE_BACKDATE: Duration = Duration::from_secs(3_600);
/// Largest certificate signing request, PEM or DER.
pub const CSR_BYTES_MAX: usize = 16 * 1_024;
/// Tickets that a handshake ends with. A client shows each only once, also to a server that does not answer: so
/// this many tries in a row are short handshakes, the last of which may come after half a minute of outage.
pub const TICKETS_PER_HANDSHAKE: usize = 3;
/// A ticket key makes tickets for this long, and opens them for as long again. So a herd that comes back
/// after an outage of half a day resumes, and a stolen ticket key is of no use two days later.
pub const TICKET_KEY_LIFE: Duration = Duration::from_secs(12 * 3_600);
/// Largest session ticket: the peer's certificate chain and some.
pub const TICKET_BYTES_MAX: usize = 8 * 1_024;
/// Certificates in a trust bundle: two roots while one replaces the other, and room.
pub const TRUST_ROOTS_MAX: usize = 16;
/// Largest signed file, activation files and exports among them.
pub const SIGNED_FILE_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Largest signature that lies beside a file: a header with a chain of certificates. Ours have 3 KB.
pub const SIGNATURE_BYTES_MAX: usize = 16 * 1_024;
/// Bytes of the name or media type of a signed file.
pub const SIGNED_FILE_NAME_BYTES_MAX: usize = 256;
/// Certificates that a signed file may carry: the signer's, the intermediate's, and room for another level.
pub const SIGNED_FILE_CERTIFICATES_MAX: usize = 4;
/// Life of the certificate that signs files, made anew when a third of it is left.
pub const SIGNING_CERTIFICATE_LIFE: Duration = Duration::from_secs(366 * 86_400);
/// An activation file is void this long after it was made, unless it was used.
pub const ACTIVATION_LIFE: Duration = Duration::from_secs(14 * 86_400);
/// Largest activation file or response to one: a few certificates and some lines.
pub const ACTIVATION_FILE_BYTES_MAX: usize = 64 * 1_024;
/// Revoked serials that one server remembers; at 40 bytes each and a set's overhead, 80 MB.
pub const REVOKED_MAX: usize = 1_000_000;

// ---------------------------------------------------------------- live state

/// Slots of one chunk of the slab.
pub const SLAB_CHUNK_SLOTS: usize = 4_096;
/// Chunks of the slab: 16 Mi sensors.
pub const SLAB_CHUNKS_MAX: usize = 4_096;
/// Expected heartbeats that the arrival window remembers.
pub const ARRIVAL_WINDOW: u32 = 64;
/// Tries of a reader against a busy writer before it leaves the slot for the next sweep.
pub const SNAPSHOT_TRIES: u32 = 64;
/// Tries of a frame's writer against another writer of the same slot (a connection being replaced).
pub const WRITER_TRIES: u32 = 256;
/// Tries of the register or of a new connection: some 40 ms, so longer than a writer that was put to sleep
/// in the middle of a slot stays away.
pub const PATIENT_TRIES: u32 = 2_000_000;
/// Longest forward jump of a sequence that is believed: a day at the shortest interval. More counts as this.
pub const SEQUENCE_JUMP_MAX: u64 = (FRAME_AGE_MAX.as_millis() / INTERVAL_MIN.as_millis()) as u64;
/// A sensor whose sequence went backwards is not believed for this long, or three intervals if longer.
pub const SEQUENCE_DISTRUST_MIN: Duration = Duration::from_secs(60);
/// A later heartbeat may seem this much older than the one before, since ages are rounded and relays differ.
pub const FRAME_TIME_SLACK: Duration = Duration::from_secs(1);
/// Gateways of one server.
pub const GATEWAYS_MAX: usize = 65_536;

// ---------------------------------------------------------------- journal, history, HTTP

/// Transitions between sweep and journal. What does not fit is offered again by the next sweep.
pub const TRANSITIONS_QUEUE: usize = 65_536;
/// Transitions written in one batch.
pub const JOURNAL_BATCH_MAX: usize = 4_096;
/// Transitions that wait for one reader who follows the journal, at about 500 bytes each: 32 MB when that
/// reader hangs. Beyond it they are counted as missed; the journal itself has them all.
pub const TAP_QUEUE: usize = TRANSITIONS_QUEUE;
/// Readers who follow the journal at once.
pub const TAPS_MAX: usize = 16;
/// Time between two checkpoints of live state.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);
/// Time that one history block covers.
pub const HISTORY_BLOCK: Duration = Duration::from_secs(300);
/// Time between two looks of history at every sensor: a thirtieth of a block, the grain of availability.
pub const HISTORY_SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// History blocks that wait in memory for a store that refuses them: a quarter of an hour, about 200 bytes a
/// sensor. Beyond it the oldest is given up.
pub const HISTORY_BLOCKS_WAITING: usize = 3;
/// Largest page of any list.
pub const PAGE_MAX: usize = 1_000;
/// Sensors with messages that one page of active messages looks at; a page that finds less says how to go on.
pub const MESSAGES_SCAN_MAX: usize = 50_000;
/// Sensors on one page of per-sensor metrics. Beyond it the page says that it is truncated.
pub const SENSOR_METRICS_PAGE_MAX: usize = 50_000;
/// Sensors on such a page when nobody says how many.
pub const SENSOR_METRICS_PAGE_DEFAULT: usize = 10_000;
/// Pages of per-sensor metrics under way at once. At 400 bytes a sensor and the largest page each: 80 MB.
pub const SENSOR_PAGES_MAX: usize = 4;
/// A page that has been under way for this long gives way to a new one.
pub const SENSOR_PAGE_GRACE: Duration = Duration::from_secs(10);
/// Bytes of such a page that are written at once.
pub const SENSOR_PIECE_BYTES: usize = 64 * 1_024;
/// Series on `/metrics`, whatever the fleet.
pub const METRICS_SERIES_MAX: usize = 1_000;
/// HTTP connections. At most 16 KiB read and about 128 KiB to be sent each: 40 MB. One more makes room by
/// closing the one whose last request is the oldest.
pub const HTTP_CONNECTIONS_MAX: usize = 256;
/// Largest head of a request, and largest piece that is read at once.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1_024;
/// Headers of one request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Largest body of a request.
pub const HTTP_BODY_BYTES_MAX: usize = 64 * 1_024;
/// How long a connection may take for a request's head, waiting for the request included.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may read nothing of an answer that is under way.
pub const HTTP_SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one answer may take in all.
pub const HTTP_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Answers that are worked out at once, for the API. Further ones wait.
pub const HTTP_WORKERS: usize = 4;
/// Places for metrics and readiness beside them, so that they never wait for the API.
pub const HTTP_WORKERS_RESERVED: usize = 2;
/// Sign-ins that wait for the identity provider at once.
pub const HTTP_WORKERS_PROVIDER: usize = 2;
/// How long an answer may wait for a worker before the client is told to come back.
pub const HTTP_WORKER_WAIT: Duration = Duration::from_secs(2);
/// Time between two tries of the store, for readiness.
pub const STORE_PROBE_EVERY: Duration = Duration::from_secs(5);
/// A try of the store that takes longer means that it can't be written.
pub const STORE_PROBE_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = assert!(HTTP_SEND_TIMEOUT.as_secs() < HTTP_ANSWER_TIMEOUT.as_secs());
// hyper takes no smaller buffer.
const _: () = assert!(HTTP_HEAD_BYTES_MAX >= 8_192);
const _: () = assert!(FRAMES_PER_DATAGRAM_MAX * FRAME_HEADER_BYTES < 1_200);
const _: () = assert!(IDLE_TIMEOUT.as_millis() == 3 * INTERVAL_MAX.as_millis());
const _: () = assert!(HISTORY_BLOCK.as_millis() == 30 * HISTORY_SAMPLE_EVERY.as_millis());
const _: () = assert!(HALF_OPEN_RETRY < HALF_OPEN_MAX);
const _: () = assert!(HALF_OPEN_MAX < u16::MAX as usize);
const _: () = assert!(ENROL_PLACES_MAX <= CONNECTIONS_PER_SHARD_MAX);
const _: () = assert!(CONNECTION_WINDOW_BYTES < GATEWAY_WINDOW_BYTES);
const _: () = assert!(STREAM_WINDOW_BYTES <= GATEWAY_WINDOW_BYTES);
const _: () = assert!(SENSOR_FRAMES_PER_SECOND as u128 >= 50 * (1_000 / INTERVAL_MIN.as_millis()));
const _: () = assert!(ACK_ELICIT_EVERY_PACKETS < 1_000);
const _: () = assert!(SENSOR_IDLE_TIMEOUT.as_secs() >= 3 * KEEP_ALIVE.as_secs());
const _: () = assert!(SENSOR_IDLE_TIMEOUT.as_secs() <= IDLE_TIMEOUT.as_secs());
const _: () = assert!(CONNECT_TIMEOUT.as_secs() > HANDSHAKE_TIMEOUT.as_secs());
const _: () = assert!(SENSOR_WINDOW_BYTES_MIN > SENSOR_IDLE_TIMEOUT.as_secs() * 400);
const _: () = assert!(BACKLOG_FRAMES < SENSOR_FRAMES_BURST as usize);
const _: () = assert!(SENSOR_BUFFER_BYTES as usize >= 2 * CONTROL_MESSAGE_BYTES_MAX);
const _: () = assert!(PEER_CERTIFICATE_LIFE_MAX.as_secs() < INTERMEDIATE_LIFE.as_secs() / 4 * 2);
// A request to renew: chain, signing request, and a kilobyte for the rest.
const _: () = assert!(ENROL_MESSAGE_BYTES_MAX >= CSR_BYTES_MAX + 2 * CONTROL_MESSAGE_BYTES_MAX / 4 + 1_024);
const _: () = assert!(INTERMEDIATE_LIFE.as_secs() < ROOT_LIFE.as_secs());
// A TLS ticket may not promise more than seven days.
const _: () = assert!(2 * TICKET_KEY_LIFE.as_secs() <= 7 * 86_400);
const _: () = assert!(ARRIVAL_WINDOW == u64::BITS);
const _: () = assert!(SLAB_CHUNK_SLOTS * SLAB_CHUNKS_MAX <= u32::MAX as usize);
const _: () = assert!(SHARDS_MAX < 256);
// The owner of a slot names its connection in 32 bits: 20 for the place, 12 to tell its users apart.
const _: () = assert!(CONNECTIONS_PER_SHARD_MAX < 1 << 20);
// Everything that strangers can make one shard hold at most: 1,024 half-open handshakes with 16 KiB out of
// order, as much again before they are accepted, and their queued packets: about 31 MiB.
const _: () = assert!(
    HALF_OPEN_MAX * HANDSHAKE_BUFFER_BYTES
        + INCOMING_BUFFER_BYTES_TOTAL as usize
        + HANDSHAKE_QUEUE * UDP_PAYLOAD_BYTES_MAX as usize
        <= 32 * 1_024 * 1_024
);
const _: () = assert!(PARTIAL_FRAME_TIMEOUT.as_millis() >= SESSION_ROUND.as_millis());
const _: () = assert!(INCOMING_BUFFER_BYTES_TOTAL / INCOMING_BUFFER_BYTES < HALF_OPEN_MAX as u64);

// ---------------------------------------------------------------- register and store

/// Characters of a name that people give.
pub const NAME_CHARS_MAX: usize = 128;
/// Sensors of one register: what the slab of live state can hold.
pub const SENSORS_MAX: usize = SLAB_CHUNK_SLOTS * SLAB_CHUNKS_MAX;
/// Sites of one register.
pub const SITES_MAX: usize = 1_000_000;
/// Zones of one register: two a site. About 250 bytes each with name and indexes, so 500 MB at most.
pub const ZONES_MAX: usize = 2 * SITES_MAX;
/// Sensors of one register that there are or ever were. A deleted one is remembered, so that its id is never used for
/// another and its certificate and activation file say why they are refused; about 200 bytes each. With this bound a
/// full register can be replaced once as a whole, and who adds and deletes on purpose fills 3.4 GB and no more. What is
/// refused is adding: deleting leaves the sum as it is, so it is always possible.
pub const SENSORS_EVER_MAX: usize = 2 * SENSORS_MAX;
/// Sites that one gateway may speak for.
pub const GATEWAY_SITES_MAX: usize = 4_096;
/// Different policies in use at a time: what an index of 16 bits can tell apart. About 2 KB each.
pub const POLICIES_MAX: usize = 1 << 16;
/// Commands that succeed or fail together: an import of [`IMPORT_ROWS_MAX`] sensors, each with notes and a zone of its
/// own. At about 150 bytes a change a batch stays below 8 MB; with the longest notes, below 60.
pub const COMMANDS_PER_BATCH_MAX: usize = 50_000;

/// Characters of a sensor's notes, or of the reason of a mute or maintenance window.
pub const NOTES_CHARS_MAX: usize = 2_000;

/// Tags of a site.
pub const TAGS_MAX: usize = 50;

/// Characters of a tag's key; its value may have [`NAME_CHARS_MAX`].
pub const TAG_KEY_CHARS_MAX: usize = 64;

/// Owners of a site.
pub const OWNERS_MAX: usize = 20;

/// Bytes of an e-mail address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
pub const EMAIL_BYTES_MAX: usize = 254;

/// Maintenance windows of one sensor or site that did not end yet.
pub const WINDOWS_MAX: usize = 32;

/// Longest maintenance window.
pub const WINDOW_MAX: Duration = Duration::from_secs(90 * 86_400);

/// Certificates of one sensor that did not run out yet. A sensor renews when a third of a life is left, so two are
/// ordinary; of more than these the oldest that is not in use is revoked.
pub const CREDENTIALS_MAX: usize = 8;

/// Certificates that one sensor is given within a [`GRANT_SPAN_SHARE`]th of their life, each a durable change: enough for
/// answers that are lost one after the other.
pub const GRANTS_AT_ONCE: usize = 4;
/// See [`GRANTS_AT_ONCE`]; of 30 days this is 30 hours.
pub const GRANT_SPAN_SHARE: u32 = 24;

/// For how long the key that an activation file was used for is answered again.
pub const ACTIVATION_REPEAT: Duration = Duration::from_secs(86_400);

/// Refused enrolments that a sensor's document keeps.
pub const ATTEMPTS_KEPT: usize = 8;

/// Tokens of void activation files that are still known as such.
pub const VOIDED_KEPT: usize = 8;

/// Users.
pub const USERS_MAX: usize = 10_000;

/// Tokens of one user.
pub const TOKENS_PER_USER_MAX: usize = 100;

/// Grants of one user or token.
pub const GRANTS_MAX: usize = 100;

/// Bytes of a password's hash: an argon2id PHC string has about 100.
pub const PASSWORD_HASH_BYTES_MAX: usize = 512;

/// Bytes of an event's detail.
pub const EVENT_DETAIL_BYTES_MAX: usize = 1_024;
