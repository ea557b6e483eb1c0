//! A real sshd behind the agent, and ssh, scp and git in front of the client, with the very file `examples/ssh_config`.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conformance::harness::programs::{clear_settings, ours, repository};
use conformance::harness::tunnel::{AGENT, CLIENT_SECRET, Tunnel};
use conformance::harness::{
    Process, Target, find_program, installed, seeded_bytes, sha256, wait_until,
};

/// A tunnel to an sshd, and what ssh needs to use it.
struct Ssh {
    tunnel: Tunnel,
    target: Target,
    folder: PathBuf,
}

impl Ssh {
    /// `None` where something is not installed; the test is then skipped by name.
    fn start(test: &str) -> io::Result<Option<Self>> {
        if !["sshd", "ssh", "ssh-keygen", "scp"].iter().all(|program| installed(test, program)) {
            return Ok(None);
        }
        let tunnel = Tunnel::ours();
        let folder = tunnel.folder().to_owned();
        for name in ["host_key", "user_key"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(name));
            assert!(keygen.status()?.success());
        }
        fs::copy(folder.join("user_key.pub"), folder.join("authorized_keys"))?;
        let host_key = fs::read_to_string(folder.join("host_key.pub"))?;
        fs::write(folder.join("known_hosts"), format!("{AGENT} {host_key}"))?;
        let target = sshd(&folder)?;
        let ssh = Self { tunnel, target, folder };
        ssh.write_config()?;
        Ok(Some(ssh))
    }

    /// The example, with the places of this test in place of those in it; and what any user has in other files.
    fn write_config(&self) -> io::Result<()> {
        let secret = self.folder.join("secret");
        fs::write(&secret, format!("{CLIENT_SECRET}\n"))?;
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
        let mut text = fs::read_to_string(repository().join("examples/ssh_config"))?;
        for (from, to) in [
            (
                "ProxyCommand access-client ",
                format!("ProxyCommand {} ", ours().join("access-client").display()),
            ),
            ("wss://relay.example.org", format!("ws://127.0.0.1:{}", self.tunnel.port())),
            ("~/.config/http-network-relay/secret", secret.display().to_string()),
        ] {
            assert!(text.contains(from), "examples/ssh_config has no {from:?}");
            text = text.replace(from, &to);
        }
        text.push_str(&format!(
            "\nHost *\n    Port {}\n    IdentityFile {folder}/user_key\n    IdentitiesOnly yes\n    \
             UserKnownHostsFile {folder}/known_hosts\n    HostKeyAlias {AGENT}\n    \
             StrictHostKeyChecking yes\n    BatchMode yes\n",
            self.target.port(),
            folder = self.folder.display(),
        ));
        fs::write(self.config(), text)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("ssh_config")
    }

    /// `ssh` or `scp` with the configuration.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        clear_settings(&mut command);
        command.arg("-F").arg(self.config()).stdin(Stdio::null());
        command
    }
}

/// An sshd that serves each connection as inetd would start it, so it needs no port of its own.
fn sshd(folder: &Path) -> io::Result<Target> {
    let config = folder.join("sshd_config");
    fs::write(
        &config,
        format!(
            "HostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPidFile none\n\
             Subsystem sftp internal-sftp\nLogLevel ERROR\n",
            folder = folder.display()
        ),
    )?;
    // sshd insists on it when it runs as root; otherwise it cannot be made, and is not needed.
    let _ = fs::create_dir_all("/run/sshd");
    let program = find_program("sshd").unwrap_or_else(|| "sshd".into());
    Ok(Target::serving(move |stream: &mut TcpStream| {
        let (input, output) = (stream.try_clone().ok()?, stream.try_clone().ok()?);
        let mut sshd = Command::new(&program);
        sshd.args(["-i", "-e", "-f"]).arg(&config);
        sshd.stdin(OwnedFd::from(input)).stdout(OwnedFd::from(output)).stderr(Stdio::null());
        // Its own status is that of the session, which the tests see at ssh.
        let _ = sshd.status();
        None
    }))
}

#[test]
fn ssh_runs_commands_and_carries_stdin() -> io::Result<()> {
    let Some(ssh) = Ssh::start("ssh_runs_commands_and_carries_stdin")? else { return Ok(()) };
    let output =
        ssh.command("ssh").args([AGENT, "echo to stdout; echo to stderr >&2; exit 7"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert_eq!(output.stdout, b"to stdout\n");
    assert_eq!(said, "to stderr\n", "the client adds nothing");

    let sent = seeded_bytes(1, 3_000_000);
    let file = ssh.folder.join("input");
    fs::write(&file, &sent)?;
    let output = ssh.command("ssh").args([AGENT, "cat"]).stdin(fs::File::open(&file)?).output()?;
    assert_eq!(sha256(&output.stdout), sha256(&sent), "{:?}", output.status);

    // Nothing of it stays: ssh ends its ProxyCommand, which ends the stream.
    let ended =
        || ssh.tunnel.agent.stderr().iter().filter(|line| line.contains("stream ended")).count();
    wait_until("both streams have ended at the agent", || ended() == 2);
    Ok(())
}

#[test]
fn ssh_says_why_it_cannot_connect() -> io::Result<()> {
    let Some(ssh) = Ssh::start("ssh_says_why_it_cannot_connect")? else { return Ok(()) };
    let output = ssh.command("ssh").args(["kitchen", "true"]).output()?;
    assert_eq!(output.status.code(), Some(255));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("access-client: agent \"kitchen\" is not connected to "), "{said}");
    Ok(())
}

#[test]
fn scp_copies_32_mib_both_ways() -> io::Result<()> {
    let Some(ssh) = Ssh::start("scp_copies_32_mib_both_ways")? else { return Ok(()) };
    let sent = seeded_bytes(2, 32 << 20);
    let [from, there, back] = ["from", "there", "back"].map(|name| ssh.folder.join(name));
    fs::write(&from, &sent)?;
    let remote = format!("{AGENT}:{}", there.display());
    for (source, destination) in
        [(from.display().to_string(), remote.clone()), (remote, back.display().to_string())]
    {
        let output = ssh.command("scp").args(["-q", &source, &destination]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{source}: {said}");
    }
    assert!(fs::read(&there)? == sent && fs::read(&back)? == sent, "other bytes");
    Ok(())
}

#[test]
fn git_clones_and_pushes() -> io::Result<()> {
    let test = "git_clones_and_pushes";
    if !installed(test, "git") {
        return Ok(());
    }
    let Some(ssh) = Ssh::start(test)? else { return Ok(()) };
    let origin = ssh.folder.join("origin");
    let clone = ssh.folder.join("clone");
    let git = |folder: &Path, arguments: &[&str]| -> io::Result<String> {
        let mut git = Command::new("git");
        clear_settings(&mut git);
        git.current_dir(folder)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        git.env("GIT_SSH_COMMAND", format!("ssh -F {}", ssh.config().display()));
        git.args(["-c", "user.name=test", "-c", "user.email=test@example.org"]).args(arguments);
        let output = git.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // The programs of the far side may not be in the path of a session.
    let path = git(&ssh.folder, &["--exec-path"])?;
    git(&ssh.folder, &["init", "-q", "-b", "main", "origin"])?;
    fs::write(origin.join("file"), seeded_bytes(3, 4 << 20))?;
    git(&origin, &["add", "file"])?;
    git(&origin, &["commit", "-q", "-m", "first"])?;

    let url = format!("ssh://{AGENT}{}", origin.display());
    let upload = format!("{path}/git-upload-pack");
    git(&ssh.folder, &["clone", "-q", "--upload-pack", &upload, &url, "clone"])?;
    assert_eq!(git(&clone, &["rev-parse", "HEAD"])?, git(&origin, &["rev-parse", "HEAD"])?);
    git(&clone, &["fsck", "--full"])?;

    fs::write(clone.join("other"), seeded_bytes(4, 1 << 20))?;
    git(&clone, &["add", "other"])?;
    git(&clone, &["commit", "-q", "-m", "second"])?;
    let receive = format!("--receive-pack={path}/git-receive-pack");
    git(&clone, &["push", "-q", &receive, "origin", "main:pushed"])?;
    assert_eq!(git(&clone, &["rev-parse", "HEAD"])?, git(&origin, &["rev-parse", "pushed"])?);
    Ok(())
}

#[test]
fn ssh_ends_when_the_agent_is_lost() -> io::Result<()> {
    let Some(mut ssh) = Ssh::start("ssh_ends_when_the_agent_is_lost")? else { return Ok(()) };
    let mut command = ssh.command("ssh");
    command.args([AGENT, "echo ready; sleep 1000"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut session = Process::start("ssh", command, false);
    let output = session.collect_stdout();
    assert_eq!(output.wait_for(6), b"ready\n", "{:?}", session.stderr());
    ssh.tunnel.agent.kill();
    assert_eq!(session.wait(), 255);
    let said = session.stderr_at_end();
    assert!(said.iter().any(|line| line.starts_with("access-client: ")), "{said:?}");
    Ok(())
}
