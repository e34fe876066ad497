//! Our headers against NVIDIA's, release by release, as a C compiler sees them: the prototypes agree, and
//! so do the numbers behind the names, the sizes and the offsets.
//!
//! NVIDIA's headers come with the wheels (tests/fetch_nccl.py); they are read, never copied into the tree. CUDA's
//! headers are stood in for by tests/c/cuda_stand_in.

use crate::support;
use crate::support::header::Header;
use crate::support::{RealNccl, Release, exports, include_dir, work_dir, write};
use std::collections::BTreeMap;
use std::path::Path;

/// Names whose number says how far a release has come, so it differs from release to release.
const COUNTING: &[&str] = &["ncclNumResults", "ncclNumTypes"];

fn ours() -> Header {
    ours_by_default().defining(&support::newest_api())
}

/// Our header as it is when nothing is said.
fn ours_by_default() -> Header {
    Header::c(include_dir().join("nccl.h"))
}

/// The host functions of device communication have a header of their own, on top of nccl.h.
fn ours_device() -> Header {
    Header::c(include_dir().join("nccl_device_host.h")).defining(&support::newest_api())
}

fn theirs(real_nccl: &RealNccl) -> Header {
    Header::c(real_nccl.directory.join("nccl.h"))
}

/// The header in which a release declares its host functions for device communication. It exists since 2.28.
fn theirs_device(real_nccl: &RealNccl) -> Option<Header> {
    if real_nccl.release < Release(2, 28, 0) {
        return None;
    }
    ["nccl_device/host.h", "nccl_device/core.h"]
        .iter()
        .map(|name| real_nccl.directory.join(name))
        .find(|path| path.is_file())
        .map(|path| Header::cxx(path, real_nccl.directory.clone()))
}

/// Compiles NVIDIA's header followed by our declarations of every function that it declares. Returns how many.
fn redeclare(
    dir: &Path,
    name: &str,
    header: &Header,
    declared: &BTreeMap<String, String>,
    ours: &BTreeMap<String, String>,
) -> usize {
    let mut unit = format!("#include \"{}\"\n", header.file.display());
    if header.cxx {
        unit.push_str("extern \"C\" {\n");
    }
    let mut count = 0;
    for function in declared.keys() {
        let Some(declaration) = ours.get(function) else {
            assert!(
                !exports().iter().any(|export| export.name == function.trim_start_matches('p')),
                "{} declares {function}, our headers do not",
                header.file.display()
            );
            continue;
        };
        unit.push_str(&format!("extern {declaration};\n"));
        count += 1;
    }
    if header.cxx {
        unit.push_str("}\n");
    }
    let extension = if header.cxx { "cc" } else { "c" };
    let source = write(dir.join(format!("{name}.{extension}")), unit);
    header.compiler().arg("-c").arg(source).build(dir.join(format!("{name}.o")));
    count
}

#[test]
fn our_prototypes_are_those_of_every_release() {
    let dir = work_dir("abi/prototypes");
    let ours = ours().functions();
    for real_nccl in support::real_releases() {
        let header = theirs(&real_nccl);
        let declared = header.functions();
        let count = redeclare(&dir, &format!("host-{}", real_nccl.release), &header, &declared, &ours);
        // Each release declares, in its nccl.h, some 27 functions, each under two names.
        assert!(count >= 50, "only {count} prototypes compared with NCCL {}", real_nccl.release);
    }
}

#[test]
fn our_prototypes_of_device_communication_are_those_of_every_release_that_has_it() {
    let dir = work_dir("abi/device-prototypes");
    let ours = ours_device().functions();
    let mut compared = 0;
    for real_nccl in support::real_releases() {
        let Some(header) = theirs_device(&real_nccl) else { continue };
        let host = theirs(&real_nccl).functions();
        let declared: BTreeMap<String, String> =
            header.functions().into_iter().filter(|(name, _)| !host.contains_key(name)).collect();
        let count = redeclare(&dir, &format!("device-{}", real_nccl.release), &header, &declared, &ours);
        assert!(count >= 5, "only {count} prototypes compared with NCCL {}", real_nccl.release);
        compared += 1;
    }
    assert!(compared > 0 || std::env::var_os("DIME_TEST_NCCL").is_some());
}

#[test]
fn our_headers_declare_every_function_of_the_table_and_no_other() {
    let ours = ours_device().functions();
    let mut expected = support::exported_names();
    // It is declared in no header of NVIDIA's either; libraries that are built with NCCL call it.
    expected.retain(|name| name != "ncclResetDebugInitInternal");
    for name in &expected {
        assert!(ours.contains_key(name), "our headers do not declare {name}");
    }
    for name in ours.keys() {
        assert!(expected.contains(name) || name == "ncclResetDebugInitInternal", "our headers declare {name}");
    }
}

#[test]
fn the_numbers_behind_the_names_are_those_of_every_release() {
    let dir = work_dir("abi/numbers");
    let ours = ours();
    let our_names = ours.enumerators();
    let items = |names: &mut dyn Iterator<Item = &String>| -> Vec<(String, String)> {
        names.map(|name| (name.clone(), format!("(long long){name}"))).collect()
    };
    let our_numbers = ours.print(&dir, "ours", "%lld", &items(&mut our_names.iter()));
    let newest = support::newest_release().release;
    for real_nccl in support::real_releases() {
        let header = theirs(&real_nccl);
        let their_names = header.enumerators();
        assert!(their_names.len() >= 30, "only {} names in {}", their_names.len(), header.file.display());
        let name = format!("theirs-{}", real_nccl.release);
        let their_numbers = header.print(&dir, &name, "%lld", &items(&mut their_names.iter()));
        for (name, number) in &their_numbers {
            if COUNTING.contains(&name.as_str()) && real_nccl.release != newest {
                continue;
            }
            let ours = our_numbers.get(name).unwrap_or_else(|| panic!("our nccl.h has no {name}"));
            assert_eq!(ours, number, "{name} in our nccl.h (left) and in that of NCCL {}", real_nccl.release);
        }
    }
}

#[test]
fn the_macros_are_those_of_the_newest_release() {
    same_macros("abi/macros", &ours(), &theirs(&support::newest_release()));
}

fn same_macros(dir: &str, ours: &Header, theirs: &Header) {
    let dir = work_dir(dir);
    let (our_macros, their_macros) = (ours.macros(), theirs.macros());
    let is_number =
        |name: &str| !name.ends_with("_INITIALIZER") && !name.ends_with("_H_") && !name.starts_with("NCCL_OS_");
    let numbers: Vec<(String, String)> = their_macros
        .keys()
        .filter(|name| is_number(name) && *name != "NCCL_SUFFIX")
        .map(|name| {
            let is_pointer = name.ends_with("_PTR") || name.ends_with("_NULL");
            (name.clone(), format!("(double){}{name}", if is_pointer { "(size_t)" } else { "" }))
        })
        .collect();
    assert!(numbers.len() >= 15, "only {} macros", numbers.len());
    for name in their_macros.keys().filter(|name| !name.ends_with("_H_") && !name.starts_with("NCCL_OS_")) {
        assert!(our_macros.contains_key(name), "our nccl.h does not define {name}");
    }
    assert_eq!(ours.print(&dir, "ours", "%.0f", &numbers), theirs.print(&dir, "theirs", "%.0f", &numbers));
}

/// The structs that applications fill in or pass.
const STRUCTS: &[&str] = &[
    "ncclUniqueId",
    "ncclConfig_t",
    "ncclCollConfig_t",
    "ncclConfigExt_t",
    "ncclSimInfo_t",
    "ncclWaitSignalDesc_t",
    "ncclEncryptionConfig_t",
];

/// The scalar types of the interface.
const SCALARS: &[&str] =
    &["ncclResult_t", "ncclDataType_t", "ncclRedOp_t", "ncclScalarResidence_t", "ncclComm_t", "ncclWindow_t"];

#[test]
fn sizes_and_offsets_are_those_of_every_release() {
    let dir = work_dir("abi/layout");
    let ours = ours();
    let newest = support::newest_release().release;
    for real_nccl in support::real_releases() {
        let header = theirs(&real_nccl);
        let release = real_nccl.release;
        let mut items = Vec::new();
        for name in STRUCTS {
            let Some(fields) = header.fields(name) else {
                assert!(release < newest, "{name} is not in the newest header");
                continue;
            };
            let our_fields = ours.fields(name).unwrap_or_else(|| panic!("our nccl.h has no struct {name}"));
            for field in &fields {
                assert!(our_fields.contains(field), "{name} of our nccl.h has no field {field}");
                items.push((format!("{name}.{field}"), format!("(size_t)offsetof({name}, {field})")));
                items.push((format!("sizeof {name}.{field}"), format!("sizeof((({name} *)0)->{field})")));
            }
            if fields.len() == our_fields.len() {
                items.push((format!("sizeof {name}"), format!("sizeof({name})")));
            } else {
                assert!(release < newest, "{name} has {fields:?} in the newest release, ours has {our_fields:?}");
            }
        }
        for name in SCALARS {
            if *name != "ncclWindow_t" || release >= Release(2, 27, 0) {
                items.push((format!("sizeof {name}"), format!("sizeof({name})")));
            }
        }
        assert!(items.len() >= 20, "only {} layouts compared", items.len());
        let ours = ours.print(&dir, &format!("ours-{release}"), "%zu", &items);
        let theirs = header.print(&dir, &format!("theirs-{release}"), "%zu", &items);
        for (what, number) in &theirs {
            assert_eq!(&ours[what], number, "{what} in our nccl.h (left) and in that of NCCL {release}");
        }
    }
}

#[test]
fn structs_passed_by_value_have_the_sizes_of_the_newest_release() {
    let dir = work_dir("abi/by-value");
    let real_nccl = support::newest_release();
    let items: Vec<(String, String)> = ["ncclTeam_t", "ncclMultimemHandle_t"]
        .iter()
        .map(|name| (name.to_string(), format!("sizeof({name})")))
        .collect();
    // The header that completes the types which nccl_device/core.h only declares.
    let header = Header::cxx(real_nccl.directory.join("nccl_device/impl/core__types.h"), real_nccl.directory.clone());
    let mut c = format!("#include <stdio.h>\n#include \"{}\"\nint main() {{\n", header.file.display());
    for (key, expression) in &items {
        c.push_str(&format!("    printf(\"{key}=%zu\\n\", {expression});\n"));
    }
    let source = write(dir.join("theirs.cc"), c + "}\n");
    let theirs = support::Program::new(header.compiler().arg(source).build(dir.join("theirs"))).succeeds();
    let ours = ours_device().print(&dir, "ours", "%zu", &items);
    for (key, size) in &ours {
        assert_eq!(theirs.value(key), size, "{key}");
    }
}

#[test]
fn initializers_fill_structs_as_those_of_the_newest_release_do() {
    let initializers = [
        ("ncclConfig_t", "NCCL_CONFIG_INITIALIZER"),
        ("ncclCollConfig_t", "NCCL_COLLCONFIG_INITIALIZER"),
        ("ncclSimInfo_t", "NCCL_SIM_INFO_INITIALIZER"),
        ("ncclEncryptionConfig_t", "NCCL_ENCRYPTION_CONFIG_INITIALIZER"),
    ];
    same_initializers("abi/initializers", &initializers, &ours(), &theirs(&support::newest_release()));
}

fn same_initializers(dir: &str, initializers: &[(&str, &str)], ours: &Header, theirs: &Header) {
    let dir = work_dir(dir);
    let dump = |header: &Header, name: &str| {
        let mut c = format!("#include <stdio.h>\n#include \"{}\"\n", header.file.display());
        c.push_str("static void dump(const void *p, unsigned long n) {\n");
        c.push_str("    for (unsigned long i = 0; i < n; i++) printf(\"%02x\", ((const unsigned char *)p)[i]);\n");
        c.push_str("    printf(\"\\n\");\n}\nint main(void) {\n");
        for (ty, initializer) in initializers {
            // Static, so that padding is zero.
            c.push_str(&format!("    static {ty} of_{ty} = {initializer};\n    dump(&of_{ty}, sizeof of_{ty});\n"));
        }
        c.push_str("    return 0;\n}\n");
        let source = write(dir.join(format!("{name}.c")), c);
        support::Program::new(header.compiler().arg(source).build(dir.join(name))).succeeds().stdout
    };
    let (ours, theirs) = (dump(ours, "ours"), dump(theirs, "theirs"));
    assert_eq!(ours.lines().count(), initializers.len());
    assert_eq!(ours, theirs);
}

#[test]
fn by_default_our_header_is_that_of_the_last_release_without_device_code() {
    let (ours, theirs) = (ours_by_default(), theirs(&support::default_release()));
    same_macros("abi/default-macros", &ours, &theirs);
    let names = |header: &Header| -> Vec<String> {
        header.macros().into_keys().filter(|name| !name.ends_with("_H_") && !name.starts_with("NCCL_OS_")).collect()
    };
    assert_eq!(names(&ours), names(&theirs), "macros of ours (left)");
    assert_eq!(ours.enumerators(), theirs.enumerators());
    let functions = |header: &Header| header.functions().into_keys().collect::<Vec<_>>();
    assert_eq!(functions(&ours), functions(&theirs));
    let dir = work_dir("abi/default");
    assert!(redeclare(&dir, "redeclared", &theirs, &theirs.functions(), &ours.functions()) >= 60);
    let numbers: Vec<(String, String)> =
        ours.enumerators().into_iter().map(|name| (name.clone(), format!("(long long){name}"))).collect();
    assert_eq!(
        ours.print(&dir, "our-numbers", "%lld", &numbers),
        theirs.print(&dir, "their-numbers", "%lld", &numbers)
    );
    let mut layouts = Vec::new();
    for name in STRUCTS {
        assert_eq!(ours.fields(name), theirs.fields(name), "fields of {name} in ours (left)");
        for field in ours.fields(name).unwrap_or_default() {
            layouts.push((format!("{name}.{field}"), format!("(size_t)offsetof({name}, {field})")));
        }
        if ours.fields(name).is_some() {
            layouts.push((format!("sizeof {name}"), format!("sizeof({name})")));
        }
    }
    assert!(layouts.len() > 15, "{layouts:?}");
    assert_eq!(ours.print(&dir, "our-layouts", "%zu", &layouts), theirs.print(&dir, "their-layouts", "%zu", &layouts));
    let initializers = [("ncclConfig_t", "NCCL_CONFIG_INITIALIZER"), ("ncclSimInfo_t", "NCCL_SIM_INFO_INITIALIZER")];
    same_initializers("abi/default-initializers", &initializers, &ours, &theirs);
}

#[test]
fn cxx_functions_that_take_nccls_types_have_the_names_that_nvidias_header_gives_them() {
    let text = "void take(ncclComm_t, ncclConfig_t *, ncclWindow_t, ncclUniqueId, ncclSimInfo_t *, ncclResult_t, ncclRedOp_t,\n\
                ncclDataType_t);\nvoid take(ncclComm_t, ncclConfig_t *, ncclWindow_t, ncclUniqueId, ncclSimInfo_t *, ncclResult_t,\n\
                ncclRedOp_t, ncclDataType_t) {}\n";
    let dir = work_dir("abi/names");
    for (face, real_nccl, define) in [
        ("default", support::default_release(), String::new()),
        ("newest", support::newest_release(), support::newest_api()),
    ] {
        let names = [("ours", include_dir()), ("theirs", real_nccl.directory.clone())].map(|(whose, include)| {
            let source = write(dir.join(format!("{face}-{whose}.cc")), format!("#include <nccl.h>\n{text}"));
            let object = Header::cxx(include.join("nccl.h"), include)
                .compiler()
                .args((!define.is_empty()).then(|| format!("-D{define}")))
                .arg("-c")
                .arg(source)
                .build(dir.join(format!("{face}-{whose}.o")));
            let symbols = support::tool("nm", ["--defined-only".as_ref(), object.as_os_str()]);
            symbols.split_whitespace().last().expect("a symbol").to_owned()
        });
        assert_eq!(names[0], names[1], "{face}: ours (left)");
    }
}
