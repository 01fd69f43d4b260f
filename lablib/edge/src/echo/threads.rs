//! One thread for each connection, as in a textbook.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::{REST, Served, ServerSpec, on_a_thread, ran_out};
use lab::Result;

pub(super) fn start(listeners: Vec<TcpListener>, spec: &ServerSpec, served: &Arc<Served>) -> Result<()> {
    for listener in listeners {
        let (spec, mine) = (spec.clone(), Arc::clone(served));
        on_a_thread("accept", served, move || {
            accept(&listener, &spec, &mine);
            Ok(())
        })?;
    }
    Ok(())
}

fn accept(listener: &TcpListener, spec: &ServerSpec, served: &Arc<Served>) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let (mine, size) = (Arc::clone(served), spec.buffer);
                let mut builder = thread::Builder::new();
                if let Some(stack) = spec.stack {
                    builder = builder.stack_size(stack);
                }
                served.took_on();
                // Where the kernel gives no thread, the connection is closed, and counted.
                if let Err(error) = builder.spawn(move || echo(stream, size, &mine)) {
                    served.let_go();
                    served.refused(format_args!("no thread for a connection: {error}"));
                }
            }
            Err(error) if ran_out(&error) => {
                served.refused(error);
                thread::sleep(REST);
            }
            Err(_) => {} // the client has gone again
        }
    }
}

fn echo(mut stream: TcpStream, size: usize, served: &Served) {
    let mut buffer = vec![0; size];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) if stream.write_all(&buffer[..length]).is_err() => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    served.let_go();
}
