//! TLS in front of the relay, by nginx and Caddy with the very files of `examples/`, and a CONNECT proxy in between.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use codec::v1::{AGENT_PATH, CLIENT_PATH};
use conformance::harness::programs::{clear_settings, repository};
use conformance::harness::tunnel::{
    AGENT, AGENT_SECRET, CLIENT_SECRET, Client, start_relay, write_credentials,
};
use conformance::harness::{
    Origin, Process, Target, find_program, holds_within, installed, seeded_bytes, sha256,
};
use rustix::process::Signal;
use tempfile::TempDir;

/// A relay, and something in front of it.
struct Setup {
    folder: TempDir,
    relay: Process,
    relay_port: u16,
    /// Programs in front of the relay, or between.
    others: Vec<Process>,
    /// What agents and clients have in their environment.
    variables: Vec<(&'static str, String)>,
    /// The beginning of their URLs.
    base: String,
    ca_file: Option<PathBuf>,
}

impl Setup {
    fn new() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        write_credentials(folder.path());
        let (relay, relay_port) = start_relay(Origin::Ours, folder.path(), 0, &[]);
        let base = format!("ws://127.0.0.1:{relay_port}");
        Ok(Self {
            folder,
            relay,
            relay_port,
            others: Vec::new(),
            variables: Vec::new(),
            base,
            ca_file: None,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a certificate for `localhost`, its key, and the authority that has signed it.
    fn make_certificate(&mut self) -> io::Result<()> {
        let made = || -> Result<_, rcgen::Error> {
            let mut authority = rcgen::CertificateParams::new(Vec::new())?;
            authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let authority_key = rcgen::KeyPair::generate()?;
            let authority_pem = authority.self_signed(&authority_key)?.pem();
            let issuer = rcgen::Issuer::new(authority, authority_key);
            let names = vec!["localhost".to_owned(), "relay.example.org".to_owned()];
            let key = rcgen::KeyPair::generate()?;
            let leaf = rcgen::CertificateParams::new(names)?.signed_by(&key, &issuer)?;
            Ok((authority_pem, leaf.pem(), key.serialize_pem()))
        };
        let (authority, leaf, key) = made().map_err(io::Error::other)?;
        fs::write(self.path("ca.pem"), authority)?;
        fs::write(self.path("fullchain.pem"), leaf)?;
        fs::write(self.path("privkey.pem"), key)?;
        self.ca_file = Some(self.path("ca.pem"));
        Ok(())
    }

    /// Starts a server that cannot choose a free port by itself: `configure` writes its configuration for a port and
    /// gives its command. Should somebody else take the port first, there is another one.
    fn add_server(
        &mut self,
        name: &str,
        configure: impl Fn(&Self, u16) -> io::Result<Command>,
    ) -> io::Result<u16> {
        for _ in 0..5 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let mut command = configure(self, port)?;
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let mut server = Process::start(name, command, false);
            let mut ended = false;
            holds_within(conformance::harness::DEADLINE, || {
                ended = server.ended().is_some();
                ended || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            });
            if !ended {
                self.others.push(server);
                return Ok(port);
            }
            let said = server.stderr_at_end();
            assert!(said.iter().any(|line| line.contains("in use")), "{name}: {said:#?}");
        }
        Err(io::Error::other("no port stays free"))
    }

    fn command(&self, program: &str, path: &str, secret: &str) -> Command {
        let mut command = Origin::Ours.command(program);
        command.args(["--relay-url", &format!("{}{path}", self.base)]);
        command.env("HTTP_NETWORK_RELAY_SECRET", secret);
        if let Some(file) = &self.ca_file {
            command.arg("--ca-file").arg(file);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn agent(&self) -> Process {
        let mut command = self.command("edge-agent", AGENT_PATH, AGENT_SECRET);
        command.args(["--name", AGENT]).stdin(Stdio::null());
        let agent = Process::start("edge-agent", command, true);
        self.relay.wait_for_text("agent connected");
        agent
    }

    fn client(&self, target: &Target) -> Client {
        let mut command = self.command("access-client", CLIENT_PATH, CLIENT_SECRET);
        command.args([AGENT, "127.0.0.1", &target.port().to_string()]);
        Client::start(command, Origin::Ours)
    }

    /// Data both ways, and ends from both sides.
    fn check_streams(&self) {
        let sent = seeded_bytes(1, 2 << 20);
        let target = Target::checksum(sent.len());
        let mut up = self.client(&target);
        let expected = sha256(&sent);
        let pipe = up.send_beside(sent);
        let answer = up.output.wait_for(65);
        assert_eq!(
            String::from_utf8_lossy(&answer).trim_end(),
            expected,
            "{:?}",
            up.process.stderr()
        );
        drop(pipe);
        up.process.signal(Signal::TERM);
        assert_eq!(up.process.wait(), 143);
        assert_eq!(target.next_seen().error, None);

        let target = Target::source(2, 2 << 20);
        let mut down = self.client(&target);
        assert_eq!(sha256(&down.output.wait_for_end()), sha256(&seeded_bytes(2, 2 << 20)));
        assert_eq!(down.process.wait(), 0, "{:?}", down.process.stderr());
    }

    /// Checks that a client fails with this status and words.
    #[track_caller]
    fn check_failure(&self, status: i32, words: &str) {
        let target = Target::echo();
        let mut client = self.client(&target);
        let got = client.process.wait();
        let said = client.process.stderr_at_end();
        assert_eq!(got, status, "{said:?}");
        assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
    }

    /// What must hold behind any reverse proxy with TLS.
    fn check_behind_tls(&mut self) {
        let agent = self.agent();
        self.check_streams();

        let trusted = self.ca_file.take();
        self.check_failure(10, "TLS handshake with localhost:");
        self.ca_file = trusted;

        let base = self.base.clone();
        self.base = base.replace("wss://", "ws://");
        self.check_failure(11, "localhost:");
        self.base = format!("{base}/elsewhere");
        self.check_failure(11, "404");
        self.base = base;

        // A code of ours passes through: this is how the client tells one loss from another.
        let target = Target::echo();
        let mut client = self.client(&target);
        client.check_echo("hello");
        drop(agent);
        assert_eq!(client.process.wait(), 19, "{:?}", client.process.stderr());

        self.relay.signal(Signal::TERM);
        assert_eq!(self.relay.wait(), 0);
        self.check_failure(11, "502");
    }
}

/// An example file with some parts replaced, each of which must be in it.
fn example(name: &str, replaced: &[(&str, &str)]) -> io::Result<String> {
    let mut text = fs::read_to_string(repository().join("examples").join(name))?;
    for (from, to) in replaced {
        assert!(text.contains(from), "examples/{name} has no {from:?}");
        text = text.replace(from, to);
    }
    Ok(text)
}

fn tool(name: &str) -> Command {
    let mut command =
        Command::new(find_program(name).unwrap_or_else(|| Path::new(name).to_owned()));
    clear_settings(&mut command);
    command
}

/// nginx with the example, in the foreground, with all its files in the test's folder.
fn nginx(setup: &Setup, port: u16) -> io::Result<Command> {
    let folder = setup.folder.path().display().to_string();
    let port = port.to_string();
    // Where the machine has no IPv6, the example's second listener cannot be had.
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let second = if has_ipv6 { format!("listen [::1]:{port} ssl;") } else { String::new() };
    let server = example(
        "nginx.conf",
        &[
            ("listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;")),
            ("listen [::]:443 ssl;", &second),
            ("/etc/letsencrypt/live/relay.example.org", &folder),
            ("http://127.0.0.1:8000", &format!("http://127.0.0.1:{}", setup.relay_port)),
        ],
    )?;
    fs::write(setup.path("server.conf"), server)?;
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    let main = format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}include {folder}/server.conf;\n}}\n"
    );
    fs::write(setup.path("nginx.conf"), main)?;
    let mut command = tool("nginx");
    command.arg("-c").arg(setup.path("nginx.conf")).arg("-p").arg(setup.folder.path());
    command.args(["-e", "stderr"]);
    Ok(command)
}

/// Caddy with the example, with a certificate of ours in place of one that it would order.
fn caddy(setup: &Setup, port: u16) -> io::Result<Command> {
    let folder = setup.folder.path().display().to_string();
    let site = format!(
        "{{\n\tadmin off\n\tauto_https off\n}}\n\nhttps://localhost:{port} {{\n\t\
         tls {folder}/fullchain.pem {folder}/privkey.pem\n"
    );
    let upstream = format!("127.0.0.1:{}", setup.relay_port);
    let text =
        example("Caddyfile", &[("relay.example.org {\n", &site), ("127.0.0.1:8000", &upstream)])?;
    fs::write(setup.path("Caddyfile"), text)?;
    let mut command = tool("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(setup.path("Caddyfile"));
    for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env(variable, setup.folder.path());
    }
    Ok(command)
}

/// tinyproxy, which asks for a password.
fn tinyproxy(setup: &Setup, port: u16) -> io::Result<Command> {
    let text = format!(
        "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 600\nMaxClients 100\n\
         BasicAuth canary-user canary-word\nLogLevel Connect\n"
    );
    fs::write(setup.path("tinyproxy.conf"), text)?;
    let mut command = tool("tinyproxy");
    command.args(["-d", "-c"]).arg(setup.path("tinyproxy.conf"));
    Ok(command)
}

#[test]
fn behind_nginx() -> io::Result<()> {
    if !installed("behind_nginx", "nginx") {
        return Ok(());
    }
    let mut setup = Setup::new()?;
    setup.make_certificate()?;
    let port = setup.add_server("nginx", nginx)?;
    setup.base = format!("wss://localhost:{port}");
    setup.check_behind_tls();
    Ok(())
}

#[test]
fn behind_caddy() -> io::Result<()> {
    if !installed("behind_caddy", "caddy") {
        return Ok(());
    }
    let mut setup = Setup::new()?;
    setup.make_certificate()?;
    let port = setup.add_server("caddy", caddy)?;
    setup.base = format!("wss://localhost:{port}");
    setup.check_behind_tls();
    Ok(())
}

#[test]
fn through_a_connect_proxy() -> io::Result<()> {
    if !installed("through_a_connect_proxy", "tinyproxy") {
        return Ok(());
    }
    let mut setup = Setup::new()?;
    let port = setup.add_server("tinyproxy", tinyproxy)?;
    let proxy = |user: &str| format!("http://{user}127.0.0.1:{port}");
    setup.variables = vec![("http_proxy", proxy("canary-user:canary-word@"))];
    let agent = setup.agent();
    setup.check_streams();

    setup.variables = vec![("HTTP_PROXY", proxy("canary-user:canary-wrong@"))];
    setup.check_failure(10, "proxy");
    setup.variables = vec![("ws_proxy", proxy(""))];
    setup.check_failure(10, "407");
    // Around it, by the exception.
    setup.variables.push(("no_proxy", "127.0.0.0/8".to_owned()));
    setup.check_streams();
    assert!(!agent.stderr().join("\n").contains("canary-word"));
    Ok(())
}

#[test]
fn through_a_connect_proxy_to_tls() -> io::Result<()> {
    let test = "through_a_connect_proxy_to_tls";
    if !installed(test, "tinyproxy") || !installed(test, "nginx") {
        return Ok(());
    }
    let mut setup = Setup::new()?;
    setup.make_certificate()?;
    let nginx_port = setup.add_server("nginx", nginx)?;
    setup.base = format!("wss://localhost:{nginx_port}");
    let port = setup.add_server("tinyproxy", tinyproxy)?;
    setup.variables =
        vec![("https_proxy", format!("http://canary-user:canary-word@127.0.0.1:{port}"))];
    let agent = setup.agent();
    setup.check_streams();
    drop(agent);
    Ok(())
}
