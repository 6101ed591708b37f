//! One QEMU process: its command line, its ports, and the files it leaves.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cache::{self, Scratch};
use crate::cli::Shape;
use crate::image::Image;
use crate::monitor::Monitor;

/// Which disk the machine writes on.
pub enum Disk<'a> {
    /// The image's, and what is written is thrown away.
    Fresh,
    /// This layer upon the image's, thrown away too.
    Layer(&'a Path),
    /// This layer, kept.
    Keep(&'a Path),
}

/// A started emulator. Killed when dropped.
pub struct Qemu {
    child: Child,
    scratch: Scratch,
    pub monitor: Monitor,
    /// Control, standard output and standard error of the agent inside.
    pub ports: [UnixStream; 3],
}

impl Qemu {
    /// Starts an emulator, which boots at once, or waits for a saved state where `waiting`.
    pub fn start(image: &Image, shape: Shape, disk: Disk, results: &Path, waiting: bool) -> Result<Qemu> {
        let scratch = Scratch::new()?;
        let sockets = ["monitor", "control", "stdout", "stderr"];
        let listeners = sockets.map(|name| UnixListener::bind(scratch.path(name)));
        let mut command = program(image);
        command.args(machine(image, shape)).args(drive(image, &disk)).args(folders(results));
        command
            .args(ports(&scratch))
            .args(["-serial".into(), format!("file:{}", scratch.path("serial").display())]);
        if waiting {
            command.args(["-incoming", "defer"]);
        }
        let log = fs::File::create(scratch.path("qemu.log")).context("write QEMU's log")?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start QEMU")?;
        let accepted = listeners.into_iter().map(|listener| accept(&listener?, &mut child));
        let greeted = accepted.collect::<Result<Vec<_>>>().and_then(|mut streams| {
            let ports = streams.split_off(1).try_into().expect("three ports follow the monitor");
            Ok((Monitor::new(streams.remove(0))?, ports))
        });
        match greeted {
            Ok((monitor, ports)) => Ok(Qemu { child, scratch, monitor, ports }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                let said = fs::read_to_string(scratch.path("qemu.log")).unwrap_or_default();
                Err(error.context(format!("start QEMU: {}", said.trim())))
            }
        }
    }

    /// Whether the emulator is gone: the machine was switched off, or its kernel panicked.
    pub fn is_over(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Ends the emulator.
    pub fn stop(&mut self) -> Result<()> {
        self.child.kill().context("stop QEMU")?;
        self.child.wait().context("wait for QEMU").map(drop)
    }

    /// Copies what kernel and emulator said into a folder of the cache, and shows the last lines.
    pub fn keep_console(&self) -> Result<String> {
        let console = fs::read(self.scratch.path("serial")).unwrap_or_default();
        let said = fs::read_to_string(self.scratch.path("qemu.log")).unwrap_or_default();
        let kept = cache::path("failed").join(format!("{}.log", std::process::id()));
        fs::create_dir_all(cache::path("failed"))?;
        fs::write(&kept, [said.as_bytes(), &console].concat())
            .with_context(|| format!("write {}", kept.display()))?;
        let text = String::from_utf8_lossy(&console);
        let lines: Vec<_> = text.lines().collect();
        // A panic's first line stands above registers and stack.
        let panic = lines.iter().position(|line| line.contains("Kernel panic"));
        let from = panic.unwrap_or(lines.len().saturating_sub(20));
        let tail = lines[from..].iter().take(20).copied().collect::<Vec<_>>().join("\n  ");
        Ok(format!("its console:\n  {tail}\nall of it: {}", kept.display()))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("vm: {error:#}");
        }
    }
}

/// QEMU connects as it starts; one that never does is broken or gone.
fn accept(listener: &UnixListener, child: &mut Child) -> Result<UnixStream> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended: {status}");
        }
        if Instant::now() > deadline {
            bail!("it did not open its ports within 120 s");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A machine whose master was killed has nobody to stop it: the kernel does.
fn program(image: &Image) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(image.emulator("qemu-system-x86_64"));
    for data in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(image.qemu.join(data));
    }
    command
}

fn machine(image: &Image, shape: Shape) -> Vec<String> {
    let kernel = format!(
        "console=ttyS0 quiet panic=-1 mitigations=off nokaslr audit=0 random.trust_cpu=on tsc=reliable no_timer_check \
         systemd.show_status=0 pintle.init={}{}",
        shape.init.path(),
        if shape.selinux { " lsm=landlock,lockdown,yama,selinux" } else { "" }
    );
    let boot = |name: &str| image.boot.join(name).display().to_string();
    let words = "-nodefaults -no-user-config -no-reboot -display none -machine q35 -cpu max -accel";
    let mut args: Vec<String> = words.split(' ').map(str::to_owned).collect();
    args.push(image.accel.option().to_owned());
    args.extend(["-smp".into(), shape.cpus.to_string(), "-m".into(), shape.memory.to_string()]);
    args.extend([
        "-kernel".into(),
        boot("vmlinux"),
        "-initrd".into(),
        boot("initramfs"),
        "-append".into(),
        kernel,
    ]);
    args
}

fn drive(image: &Image, disk: &Disk) -> Vec<String> {
    let (file, format, snapshot) = match disk {
        Disk::Fresh => (image.boot.join("disk.ext4"), "raw", "on"),
        Disk::Layer(file) => (file.to_path_buf(), "qcow2", "on"),
        Disk::Keep(file) => (file.to_path_buf(), "qcow2", "off"),
    };
    let drive = format!("file={},format={format},snapshot={snapshot},if=virtio,cache=unsafe", file.display());
    vec!["-drive".into(), drive]
}

/// The checkout, read-only, and a folder for results. They are there but not mounted until a script runs: a machine with a
/// mounted one can't be saved.
fn folders(results: &Path) -> Vec<String> {
    let folder = |tag: &str, path: &Path, readonly: &str| -> Vec<String> {
        let path: PathBuf = path.into();
        vec![
            "-fsdev".into(),
            format!("local,id={tag},path={},security_model=none,readonly={readonly}", path.display()),
            "-device".into(),
            format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"),
        ]
    };
    [folder("checkout", cache::checkout(), "on"), folder("results", results, "off")].concat()
}

fn ports(scratch: &Scratch) -> Vec<String> {
    let socket = |name: &str| format!("socket,id={name},path={}", scratch.path(name).display());
    let mut args =
        vec!["-chardev".into(), socket("monitor"), "-mon".into(), "chardev=monitor,mode=control".into()];
    args.extend(["-device".into(), "virtio-serial-pci".into()]);
    for name in ["control", "stdout", "stderr"] {
        args.extend(["-chardev".into(), socket(name)]);
        args.extend(["-device".into(), format!("virtserialport,chardev={name},name=pintle.{name}")]);
    }
    args.extend(["-device".into(), "virtio-rng-pci".into()]);
    args
}
