//! `fleetpulse events`: what happens, as it happens; a connection that ends is opened again where it ended.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::http::Call;
use super::{Client, EXIT_CODES, Remote, run};
use crate::cli::paint::clean;
use crate::cli::{Failure, exit};
use crate::limits::{CLIENT_EVENT_BYTES_MAX, CLIENT_RETRY_AFTER_MAX, CLIENT_RETRY_AFTER_MIN};

/// Flags of `events`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse events messages
  fleetpulse events sensors --json | jq -r 'select(.event == \"sensor\").data.sensor.name'

Ends with Ctrl-C. With --json each event is one line: event, id, data. `snapshot` and `gap` say that something was missed: \
read the list then. `end` says why the server ends it: the command goes on by itself, or fails when whoever asks may not \
any more. --after takes the id of the last event that was seen.

{EXIT_CODES}"))]
pub(in crate::cli) struct Events {
    /// What to follow
    #[arg(value_enum)]
    topic: Topic,
    #[command(flatten)]
    remote: Remote,
    /// Go on after this event
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// End after so many events
    #[arg(long, value_name = "COUNT")]
    max: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Topic {
    /// Changes of sensors and places, and how sensors stand
    Sensors,
    /// Health messages that begin and end
    Messages,
}

/// Time until a lost connection is opened again, when the server does not say.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

impl Events {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| {
            let path = match self.topic {
                Topic::Sensors => "/api/v1/events/sensors",
                Topic::Messages => "/api/v1/events/messages",
            };
            let mut follow = Follow { last: self.after.clone(), again: AGAIN_AFTER, seen: 0, most: self.max };
            let mut connected = false;
            loop {
                let mut call = Call::get(path).header("Accept", "text/event-stream").endless();
                if let Some(last) = &follow.last {
                    call = call.header("Last-Event-ID", last.as_str());
                }
                match client.http.open(&call) {
                    Ok(answer) => {
                        connected = true;
                        if follow.read(client, answer.into_body().into_reader())? {
                            return Ok(());
                        }
                    }
                    // The server restarts; whoever never reached it has the address wrong.
                    Err(failure) if failure.code == exit::UNREACHABLE && connected => {
                        client.note(&failure.message)
                    }
                    Err(failure) => return Err(failure),
                }
                std::thread::sleep(follow.again);
            }
        })
    }
}

/// The time that a server asks for, within reason: one that says 0 is not asked without end.
fn again(value: &str) -> Duration {
    let again = value.parse().map(Duration::from_millis).unwrap_or(AGAIN_AFTER);
    again.clamp(CLIENT_RETRY_AFTER_MIN, CLIENT_RETRY_AFTER_MAX)
}

struct Follow {
    last: Option<String>,
    again: Duration,
    seen: u64,
    most: Option<u64>,
}

/// The event that is being read.
#[derive(Default)]
struct Event {
    name: String,
    data: String,
    id: Option<String>,
}

impl Follow {
    /// Reads until the connection ends; true when that was enough.
    fn read(&mut self, client: &mut Client, stream: impl Read) -> Result<bool, Failure> {
        let mut lines = BufReader::new(stream);
        let (mut event, mut line) = (Event::default(), Vec::new());
        loop {
            line.clear();
            let read = (&mut lines).take(CLIENT_EVENT_BYTES_MAX).read_until(b'\n', &mut line);
            // A connection that broke is as good as one that ended.
            if !read.is_ok_and(|read| read > 0) {
                return Ok(false);
            }
            if line.last() != Some(&b'\n') {
                return Err(Failure::failed("events: the server sends an event that is too long"));
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                if self.end(client, std::mem::take(&mut event))? {
                    return Ok(true);
                }
                continue;
            }
            let (field, value) = text.split_once(':').unwrap_or((text, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event.name),
                "data" if event.data.len() + value.len() > CLIENT_EVENT_BYTES_MAX as usize => {
                    return Err(Failure::failed("events: the server sends an event that is too long"));
                }
                "data" => event.data += value,
                // It goes into a header of the next request.
                "id" if value.chars().all(|c| c.is_ascii_graphic()) => event.id = Some(value.to_owned()),
                "retry" => self.again = again(value),
                _ => {}
            }
        }
    }

    fn end(&mut self, client: &mut Client, event: Event) -> Result<bool, Failure> {
        let Event { name, data, id } = event;
        if id.is_some() {
            self.last.clone_from(&id);
        }
        if name.is_empty() && data.is_empty() {
            return Ok(false);
        }
        let ended = if name == "end" { ended(&data) } else { Ok(()) };
        if client.out.format().is_json() {
            let data: Value = serde_json::from_str(&data).unwrap_or(Value::String(data));
            client.out.line(&json!({ "event": name, "id": id, "data": data }).to_string())?;
        } else {
            client.out.line(&format!("{:<9} {}", clean(&name), clean(&data)))?;
        }
        client.out.flush()?;
        ended?;
        self.seen += 1;
        Ok(self.most.is_some_and(|most| self.seen >= most))
    }
}

/// What an `end` means for the command: the server says whether to come back.
fn ended(data: &str) -> Result<(), Failure> {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    if data["again"] != false {
        return Ok(());
    }
    let why = data["detail"].as_str().unwrap_or("whoever asks may not follow them any more");
    let message = format!("events: the server ended the stream: {}", clean(why));
    Err(Failure { code: exit::NOT_ALLOWED, message, document: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_asked_again_neither_at_once_nor_never() {
        assert_eq!(again("0"), CLIENT_RETRY_AFTER_MIN);
        assert_eq!(again("3000"), Duration::from_secs(3));
        assert_eq!(again("99999999999"), CLIENT_RETRY_AFTER_MAX);
        assert_eq!(again("soon"), AGAIN_AFTER);
    }
}
