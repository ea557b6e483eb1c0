use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

use super::StopSignal;

/// The console events of Windows.
#[derive(Debug)]
pub(super) struct Sources {
    interrupt: CtrlC,
    ask: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl Sources {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            ask: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    pub(super) fn ignore_hangup(&self) -> bool {
        false
    }

    pub(super) async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.interrupt.recv() => StopSignal::Interrupt,
            _ = self.ask.recv() => StopSignal::Terminate,
            _ = self.shutdown.recv() => StopSignal::Terminate,
            _ = self.close.recv() => StopSignal::Hangup,
        }
    }
}
