//! One tokio task for each connection: with a buffer each, with none while it is idle, or speaking WebSocket.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::{Framing, Model, REST, Served, ServerSpec, on_a_thread, ran_out};
use lab::{Doing, Result};

pub(super) fn start(listeners: Vec<TcpListener>, spec: &ServerSpec, served: &Arc<Served>) -> Result<()> {
    let mut builder = match spec.model {
        Model::MultiThread => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    if spec.model == Model::MultiThread {
        builder.worker_threads(2);
    }
    let runtime = builder.enable_all().build().doing("start tokio")?;
    for listener in &listeners {
        listener.set_nonblocking(true).doing("start tokio")?;
    }
    let (spec, mine) = (spec.clone(), Arc::clone(served));
    on_a_thread("tokio", served, move || {
        runtime.block_on(async move {
            let mut accepting = Vec::new();
            for listener in listeners {
                let listener = tokio::net::TcpListener::from_std(listener).doing("listen with tokio")?;
                accepting.push(tokio::spawn(accept(listener, spec.clone(), Arc::clone(&mine))));
            }
            for one in accepting {
                one.await.doing("accept connections")?;
            }
            Ok(())
        })
    })
}

async fn accept(listener: tokio::net::TcpListener, spec: ServerSpec, served: Arc<Served>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                served.took_on();
                let mine = Arc::clone(&served);
                match (spec.framing, spec.buffer) {
                    (Framing::Plain, 0) => tokio::spawn(async move {
                        let _ = echo_without_keeping(stream).await;
                        mine.let_go();
                    }),
                    (Framing::Plain, size) => tokio::spawn(async move {
                        let _ = echo(stream, size).await;
                        mine.let_go();
                    }),
                    (Framing::WebSocket(size), _) => tokio::spawn(async move {
                        if let Err(error) = echo_frames(stream, size).await {
                            mine.complain(error);
                        }
                        mine.let_go();
                    }),
                };
            }
            Err(error) if ran_out(&error) => {
                served.refused(error);
                tokio::time::sleep(REST).await;
            }
            Err(_) => {} // the client has gone again
        }
    }
}

async fn echo(mut stream: TcpStream, size: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; size];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

/// Waits until there is something to read before it makes room for it: nothing but the task is kept while idle.
async fn echo_without_keeping(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        stream.readable().await?;
        let mut buffer = Vec::with_capacity(512);
        match stream.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => stream.write_all(&buffer).await?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn echo_frames(stream: TcpStream, size: Option<usize>) -> Result<(), Box<tokio_tungstenite::tungstenite::Error>> {
    let sized = |size: usize| WebSocketConfig::default().read_buffer_size(size).write_buffer_size(size);
    let mut socket = accept_async_with_config(stream, size.map(sized)).await?;
    while let Some(message) = socket.next().await {
        match message {
            Ok(message) if message.is_binary() || message.is_text() => socket.send(message).await?,
            Ok(_) => {}
            Err(_) => break, // reset by the client
        }
    }
    Ok(())
}
