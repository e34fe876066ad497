//! The packages of `make dist`, each installed into a root of its own.

use super::{Outcome, Program, manifest_dir, tool, work_dir};
use std::fs;
use std::path::{Path, PathBuf};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The folder of the packages.
pub fn dist_dir() -> PathBuf {
    manifest_dir().join("target/dist")
}

/// A file that `make dist` has written.
pub fn dist_file(name: &str) -> PathBuf {
    let path = dist_dir().join(name);
    assert!(path.is_file(), "{} is missing: `make dist` builds it", path.display());
    path
}

/// What an archive or a Debian package has below its prefix.
pub struct Tree {
    pub prefix: PathBuf,
    /// The folder of libraries.
    pub lib: PathBuf,
}

impl Tree {
    /// The archive, unpacked.
    pub fn archive(test: &str) -> Tree {
        let root = work_dir(&format!("dist/{test}/archive"));
        let file = dist_file(&format!("dime-{VERSION}-linux-x86_64.tar.gz"));
        tool("tar", ["-xzf".as_ref(), file.as_os_str(), "-C".as_ref(), root.as_os_str()]);
        let prefix = root.join(format!("dime-{VERSION}-linux-x86_64"));
        Tree { lib: prefix.join("lib"), prefix }
    }

    /// The Debian package, installed by dpkg into a system without any other package.
    pub fn debian(test: &str) -> Tree {
        let root = work_dir(&format!("dist/{test}/debian"));
        for folder in ["info", "updates"] {
            fs::create_dir_all(root.join("var/lib/dpkg").join(folder)).expect("a folder");
        }
        fs::write(root.join("var/lib/dpkg/status"), "").expect("an empty list of packages");
        dpkg(&root, "--install", dist_file(&format!("dime_{VERSION}_amd64.deb")));
        let prefix = root.join("usr");
        Tree { lib: prefix.join("lib/x86_64-linux-gnu"), prefix }
    }

    pub fn both(test: &str) -> [Tree; 2] {
        [Tree::archive(test), Tree::debian(test)]
    }

    pub fn library(&self) -> PathBuf {
        self.lib.join("dime/libdime.so")
    }

    pub fn tool(&self) -> Program {
        Program::new(self.prefix.join("bin/dime"))
    }
}

/// dpkg on a system below `root`, whose packages depend on nothing.
pub fn dpkg(root: &Path, action: &str, what: impl AsRef<std::ffi::OsStr>) -> Outcome {
    let sbin = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    Program::new("dpkg")
        .env("PATH", sbin)
        .arg(format!("--root={}", root.display()))
        .args(["--force-depends", "--force-not-root", "--log=/dev/null", action])
        .arg(what)
        .succeeds()
}

/// An environment of Python with the wheel in it.
pub struct Environment(pub PathBuf);

impl Environment {
    pub fn new(test: &str) -> Environment {
        let folder = work_dir(&format!("dist/{test}/environment"));
        // Without a pip of its own, which some systems do not have.
        Program::new("python3").args(["-m", "venv", "--without-pip"]).arg(&folder).succeeds();
        let environment = Environment(folder);
        let wheel = dist_file(&format!("dime_nccl-{VERSION}-py3-none-manylinux_2_28_x86_64.whl"));
        environment.pip(["install", "--no-index", "--no-deps"]).arg(wheel).succeeds();
        environment
    }

    /// The pip of the system, for this environment.
    pub fn pip<const N: usize>(&self, words: [&str; N]) -> Program {
        // It starts the rustc of rustup, which makes a folder in HOME.
        let pip = Program::new("python3").env("HOME", &self.0).args(["-m", "pip", "--quiet", "--python"]);
        pip.arg(self.0.join("bin/python")).args(words)
    }

    pub fn python(&self) -> Program {
        Program::new(self.0.join("bin/python"))
    }

    /// `python -m dime`
    pub fn tool(&self) -> Program {
        self.python().args(["-m", "dime"])
    }

    /// The folder of the package `dime`.
    pub fn package(&self) -> PathBuf {
        let lib = fs::read_dir(self.0.join("lib")).expect("a folder").flatten();
        let pythons: Vec<PathBuf> =
            lib.map(|entry| entry.path()).filter(|path| path.join("site-packages").exists()).collect();
        assert_eq!(pythons.len(), 1, "{pythons:?}");
        pythons[0].join("site-packages/dime")
    }
}
