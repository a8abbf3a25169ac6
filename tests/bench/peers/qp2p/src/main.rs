//! A peer around the published qp2p crate, on 127.0.0.1, to measure against and to exchange messages with.
//!
//! To measure:
//!   server PORT                           counts what it gets and answers "ok" on bidirectional streams
//!   client PORT COUNT SIZE INFLIGHT [bi]  sends COUNT equal messages; prints one line of figures
//! To exchange, every message reported as a JSON line with the SHA-256 of its payload:
//!   echo PORT                             answers with the message itself; one without a reply stream whose
//!                                         destination is "back" it sends back on a stream of its own
//!   load PORT COUNT SIZE INFLIGHT [bi]    sends COUNT different messages
//!
//! Servers print "ready", `echo` a JSON line with its port, when they listen; PORT 0 takes a free one.
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use qp2p::{Connection, ConnectionIncoming, Endpoint, IncomingConnections, UsrMsgBytes};
use std::{
    env,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

type Anything<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const IDLE_MS: u32 = 60_000;
const INLINE_BYTES_MAX: usize = 64 << 10;
const USAGE: &str =
    "usage: server PORT | echo PORT | (client | load) PORT COUNT SIZE INFLIGHT [bi]";

/// What a client sends.
#[derive(Clone, Copy)]
struct Load {
    count: usize,
    size: usize,
    in_flight: usize,
    bi: bool,
}

impl Load {
    fn parse(words: &[String]) -> Anything<Self> {
        let [count, size, in_flight, rest @ ..] = words else {
            return Err(USAGE.into());
        };
        Ok(Self {
            count: count.parse()?,
            size: size.parse()?,
            in_flight: in_flight.parse()?,
            bi: rest.first().map(String::as_str) == Some("bi"),
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Anything<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [command, port, rest @ ..] = words.as_slice() else {
        return Err(USAGE.into());
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    match command.as_str() {
        "server" => server(address).await,
        "echo" => echo(address).await,
        "client" => client(address, Load::parse(rest)?).await,
        "load" => load(address, Load::parse(rest)?).await,
        _ => Err(USAGE.into()),
    }
}

fn listen(address: SocketAddr) -> Anything<(Endpoint, IncomingConnections)> {
    Ok(Endpoint::builder()
        .addr(address)
        .idle_timeout(Some(IDLE_MS))
        .server()?)
}

async fn dial(address: SocketAddr) -> Anything<(Endpoint, Arc<Connection>, ConnectionIncoming)> {
    let endpoint = Endpoint::builder()
        .addr((Ipv4Addr::LOCALHOST, 0))
        .idle_timeout(Some(IDLE_MS))
        .client()?;
    let (connection, incoming) = endpoint.connect_to(&address).await?;
    Ok((endpoint, Arc::new(connection), incoming))
}

/// One message, and its reply on a bidirectional stream; errors as text, for theirs cannot all be boxed.
async fn exchange(
    connection: Arc<Connection>,
    payload: Bytes,
    bi: bool,
) -> Result<Option<Bytes>, String> {
    let message = (Bytes::new(), Bytes::new(), payload);
    if !bi {
        connection
            .send(message)
            .await
            .map_err(|e| format!("{e:?}"))?;
        return Ok(None);
    }
    let (mut sending, receiving) = connection.open_bi().await.map_err(|e| format!("{e:?}"))?;
    sending
        .send_user_msg(message)
        .await
        .map_err(|e| format!("{e:?}"))?;
    sending.finish().await.map_err(|e| format!("{e:?}"))?;
    let (_, _, reply) = receiving.read().await.map_err(|e| format!("{e:?}"))?;
    Ok(Some(reply))
}

/// Runs `one(index)` for every index below `count`, at most `in_flight` at a time; `take` gets the results.
async fn run<T, F: Future<Output = Result<T, String>>>(
    load: Load,
    one: impl Fn(usize) -> F,
    mut take: impl FnMut(T),
) -> Anything<Duration> {
    let started = Instant::now();
    let mut running = FuturesUnordered::new();
    let mut begun = 0;
    while begun < load.in_flight.min(load.count) {
        running.push(one(begun));
        begun += 1;
    }
    while let Some(result) = running.next().await {
        take(result?);
        if begun < load.count {
            running.push(one(begun));
            begun += 1;
        }
    }
    Ok(started.elapsed())
}

// To measure

async fn server(address: SocketAddr) -> Anything<()> {
    let (endpoint, mut connections) = listen(address)?;
    match address.port() {
        0 => println!("ready {}", endpoint.local_addr().port()),
        _ => println!("ready"),
    }
    while let Some((connection, mut incoming)) = connections.next().await {
        tokio::spawn(async move {
            let _held = connection; // dropping it would close it
            let (mut messages, mut bytes) = (0u64, 0u64);
            while let Ok(Some((message, reply))) = incoming.next_with_stream().await {
                messages += 1;
                bytes += message.0 .2.len() as u64;
                if let Some(mut stream) = reply {
                    let ok = (Bytes::new(), Bytes::new(), Bytes::from_static(b"ok"));
                    let _ = stream.send_user_msg(ok).await;
                    let _ = stream.finish().await;
                }
            }
            println!("received {messages} messages {bytes} bytes");
        });
    }
    Ok(())
}

async fn client(address: SocketAddr, load: Load) -> Anything<()> {
    let (_endpoint, connection, _incoming) = dial(address).await?;
    let payload = Bytes::from(vec![7u8; load.size]);
    let mut latencies = vec![];
    let one = |_| {
        let (connection, payload) = (connection.clone(), payload.clone());
        async move {
            let started = Instant::now();
            exchange(connection, payload, load.bi).await?;
            Ok(started.elapsed().as_secs_f64())
        }
    };
    let seconds = run(load, one, |latency| latencies.push(latency))
        .await?
        .as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    println!(
        "{} msgs x {} B inflight {} {}: {:.3} s  {:.1} MB/s  {:.0} msg/s  p50 {:.0} us p99 {:.0} us",
        load.count,
        load.size,
        load.in_flight,
        if load.bi { "bi" } else { "uni" },
        seconds,
        (load.count * load.size) as f64 / seconds / 1e6,
        load.count as f64 / seconds,
        latencies[latencies.len() / 2] * 1e6,
        latencies[latencies.len() * 99 / 100] * 1e6
    );
    Ok(())
}

// To exchange

async fn echo(address: SocketAddr) -> Anything<()> {
    let (endpoint, mut connections) = listen(address)?;
    println!(r#"{{"listening":{}}}"#, endpoint.local_addr().port());
    while let Some((connection, incoming)) = connections.next().await {
        tokio::spawn(answer(Arc::new(connection), incoming));
    }
    Ok(())
}

async fn answer(connection: Arc<Connection>, mut incoming: ConnectionIncoming) {
    loop {
        match incoming.next_with_stream().await {
            Ok(Some((message, reply))) => {
                let connection = connection.clone();
                tokio::spawn(async move {
                    report(&message.0, reply.is_some()).await;
                    if let Some(mut stream) = reply {
                        let _ = stream.send_user_msg(message.0).await;
                        let _ = stream.finish().await;
                    } else if message.0 .1.as_ref() == b"back" {
                        let _ = connection.send(message.0).await;
                    }
                });
            }
            Ok(None) => break,
            Err(error) => {
                let text = format!("{error:?}").replace(['"', '\\'], "'");
                println!(r#"{{"error":"{text}"}}"#);
                break;
            }
        }
    }
}

async fn load(address: SocketAddr, load: Load) -> Anything<()> {
    // Before it dials: a peer that computes answers nobody.
    let payloads: Vec<Bytes> = (0..load.count)
        .map(|index| different(index as u64, load.size))
        .collect();
    let (_endpoint, connection, _incoming) = dial(address).await?;
    let one = |index: usize| {
        let (connection, payload) = (connection.clone(), payloads[index].clone());
        async move {
            let reply = exchange(connection, payload.clone(), load.bi).await?;
            let sent = hash(payload).await;
            println!(
                "{}",
                match reply {
                    Some(reply) =>
                        format!(r#"{{"hash":"{sent}","reply":"{}"}}"#, hash(reply).await),
                    None => format!(r#"{{"hash":"{sent}"}}"#),
                }
            );
            Ok(())
        }
    };
    let elapsed = run(load, one, |()| ()).await?;
    println!(
        r#"{{"done":{},"seconds":{}}}"#,
        load.count,
        elapsed.as_secs_f64()
    );
    Ok(())
}

async fn report(message: &UsrMsgBytes, bi: bool) {
    let (header, dst, payload) = message;
    println!(
        r#"{{"hash":"{}","bytes":{},"header":"{}","dst":"{}","bi":{bi}}}"#,
        hash(payload.clone()).await,
        payload.len(),
        hex(header),
        hex(dst),
    );
}

/// A payload that no other index below 256^min(size, 8) has: the index, then noise that follows from it.
fn different(index: u64, size: usize) -> Bytes {
    let mut payload = vec![0u8; size];
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in payload.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    let named = size.min(8);
    payload[..named].copy_from_slice(&index.to_le_bytes()[..named]);
    Bytes::from(payload)
}

/// The SHA-256. Of much, on a thread of its own: while this one computes, no packet is acknowledged, and what the other
/// side then repeats quinn 0.9 takes for a longer message, if it comes before the message's head is read.
async fn hash(payload: Bytes) -> String {
    let small = payload.len() < INLINE_BYTES_MAX;
    let digest = move || hex(ring::digest::digest(&ring::digest::SHA256, &payload).as_ref());
    if small {
        return digest();
    }
    tokio::task::spawn_blocking(digest).await.unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
