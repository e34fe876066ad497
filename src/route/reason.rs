//! Why an all-reduce goes to NCCL.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $text:literal;)*) => {
        /// Why an all-reduce goes to NCCL.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])* $variant,)* }

        /// All reasons, in the order of their numbers.
        pub const REASONS: &[Reason] = &[$(Reason::$variant,)*];

        impl Reason {
            /// The name in counters and results.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The reason in words.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

reasons! {
    /// No elements.
    CountZero = "count_zero", "the count is 0";
    /// NCCL reports the error.
    UnknownType = "unknown_type", "Dime's kernels do not support the element type";
    /// PreMulSum and other operations that the user made.
    UserOp = "user_op", "the operation is not one of sum, prod, max, min, avg";
    /// Larger than the threshold.
    TooLarge = "too_large", "the message is larger than the threshold";
    /// fp8 needs compute capability 9.0.
    Fp8Arch = "fp8_arch", "fp8 needs compute capability 9.0";
    /// A sentinel kernel is forced for integers.
    ForcedKernel = "forced_kernel", "the kernel that DIME_KERNEL forces cannot carry this type";
    /// One rank has no peer.
    OneRank = "one_rank", "the communicator has one rank";
    /// More ranks than the kernels serve.
    ManyRanks = "many_ranks", "the communicator has more than 8 ranks";
    /// The setup needs the host, so it never runs in a capture.
    CaptureFirst = "capture_first", "the communicator is not set up, and a capture does not allow it: call one all-reduce outside of captures first";
    /// This build has no kernels.
    NoKernels = "no_kernels", "this build of Dime has no kernels (cargo feature forward-only)";
    /// DIME_DISABLE on some rank.
    Disabled = "disabled", "DIME_DISABLE is set";
    /// CUDA_LAUNCH_BLOCKING on some rank.
    LaunchBlocking = "launch_blocking", "CUDA_LAUNCH_BLOCKING=1 makes launches wait for each other";
    /// No usable driver.
    NoDriver = "no_driver", "the CUDA driver is missing or too old";
    /// Ranks on several hosts.
    SeveralHosts = "several_hosts", "the ranks are not all on one host";
    /// Two ranks on one GPU.
    EqualDevices = "equal_devices", "two ranks share a GPU (DIME_ALLOW_SHARED_GPU=1 on all ranks allows it)";
    /// MIG instances cannot reach each other.
    Mig = "mig", "a rank runs on a MIG instance";
    /// Compute capability differs or is below 8.0.
    Architecture = "architecture", "the GPUs differ in architecture or are older than compute capability 8.0";
    /// Builds of this library differ.
    Builds = "builds_differ", "the ranks run different builds of Dime";
    /// Settings differ.
    Settings = "settings_differ", "the ranks have different DIME_ settings";
    /// No peer access.
    NoPeerAccess = "no_peer_access", "the GPUs cannot reach each other's memory";
    /// No NVLink.
    NoNvlink = "no_nvlink", "the GPUs are not all joined by NVLink (DIME_ALLOW_PCIE=1 on all ranks allows PCIe)";
    /// Scratch could not be allocated, exported or mapped.
    Memory = "memory", "scratch memory could not be allocated or shared";
    /// Descriptors could not be passed.
    Sockets = "sockets", "the ranks could not pass descriptors to each other";
    /// Kernels did not load.
    Load = "load", "the kernels could not be loaded";
    /// The probe failed.
    Probe = "probe", "the test pattern that a peer wrote did not arrive in scratch memory";
    /// A message in the setup is no valid one.
    Exchange = "exchange", "a rank's message in the setup was malformed or contradicted its earlier one";
    /// More communicators than the table has slots.
    TableFull = "table_full", "the process has more communicators at once than Dime has room for (1024)";
    /// A rank's beacon is missing: it would not take part in a setup.
    Absent = "absent", "not every rank is on this host with Dime in front of NCCL, or DIME_DISABLE=1 is set on one";
    /// NCCL refuses it.
    Revoked = "revoked", "the communicator was revoked, or shrunk with NCCL_SHRINK_ABORT";
    /// In a child of fork.
    Forked = "forked", "this process is the child of a fork, and its parent made the communicator";
    /// NCCL_P2P_DISABLE or NCCL_P2P_LEVEL on some rank.
    P2pDisabled = "p2p_disabled", "NCCL_P2P_DISABLE or NCCL_P2P_LEVEL does not allow GPUs to reach each other's memory";
    /// This rank could not light its beacon.
    NoBeacon = "no_beacon", "this rank cannot make a socket that shows the other ranks that it has Dime (a sandbox, or no descriptors left)";
    /// Its ranks have no origin key, so no beacons.
    Untraced = "untraced", "the communicator was made by a call that Dime does not follow";
    /// The driver or the kernel did not answer a rank's query about itself.
    SelfUnknown = "self_unknown", "a rank could not read its own boot id, random bytes or GPU properties";
    /// ncclAllReduceConfig with a configuration that is not for Dime.
    CallConfig = "call_config", "the call's configuration asks for an algorithm, an event, a CTA policy or fewer blocks than Dime's kernel has";
}
