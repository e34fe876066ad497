#undef DIME_NCCL_CONFIG

#if NCCL_VERSION_CODE >= 22800
#define DIME_CONFIG_INITIALIZER_SINCE_2_28 \
    NCCL_CONFIG_UNDEF_INT, /* nChannelsPerNetPeer */ \
    NCCL_CONFIG_UNDEF_INT, /* nvlinkCentricSched */ \
    NCCL_CONFIG_UNDEF_INT, /* graphUsageMode */ \
    NCCL_CONFIG_UNDEF_INT, /* numRmaCtx */ \
    NCCL_CONFIG_UNDEF_INT, /* maxP2pPeers */ \
    NCCL_CONFIG_UNDEF_INT, /* graphStreamOrdering */ \
    NCCL_CONFIG_UNDEF_INT, /* launchOrderImplicit */ \
    NCCL_CONFIG_UNDEF_INT, /* numRmaSig */ \
    NCCL_CONFIG_UNDEF_INT, /* rmaEagerInit */ \
    NCCL_CONFIG_UNDEF_INT, /* hostCftMode */ \
    NCCL_CONFIG_UNDEF_INT, /* nvlsHostMode */
#else
#define DIME_CONFIG_INITIALIZER_SINCE_2_28
#endif

/* A struct that is passed to NCCL must start as one of these. */
#define NCCL_CONFIG_INITIALIZER { \
    sizeof(ncclConfig_t), DIME_NCCL_MAGIC, NCCL_VERSION_CODE, \
    NCCL_CONFIG_UNDEF_INT, /* blocking */ \
    NCCL_CONFIG_UNDEF_INT, /* cgaClusterSize */ \
    NCCL_CONFIG_UNDEF_INT, /* minCTAs */ \
    NCCL_CONFIG_UNDEF_INT, /* maxCTAs */ \
    NCCL_CONFIG_UNDEF_PTR, /* netName */ \
    NCCL_CONFIG_UNDEF_INT, /* splitShare */ \
    NCCL_CONFIG_UNDEF_INT, /* trafficClass */ \
    NCCL_CONFIG_UNDEF_PTR, /* commName */ \
    NCCL_CONFIG_UNDEF_INT, /* collnetEnable */ \
    NCCL_CONFIG_UNDEF_INT, /* CTAPolicy */ \
    NCCL_CONFIG_UNDEF_INT, /* shrinkShare */ \
    NCCL_CONFIG_UNDEF_INT, /* nvlsCTAs */ \
    DIME_CONFIG_INITIALIZER_SINCE_2_28 \
}

#define NCCL_SIM_INFO_INITIALIZER { \
    sizeof(ncclSimInfo_t), 0x74685283, NCCL_VERSION_CODE, \
    NCCL_UNDEF_FLOAT /* estimatedTime */ \
}

#if NCCL_VERSION_CODE >= 22800
#define NCCL_COLLCONFIG_INITIALIZER { \
    sizeof(ncclCollConfig_t), DIME_NCCL_MAGIC, NCCL_VERSION_CODE, \
    NCCL_CONFIG_UNDEF_PTR, /* ext */ \
    NCCL_CONFIG_UNDEF_INT, /* minCTAs */ \
    NCCL_CONFIG_UNDEF_INT, /* maxCTAs */ \
    NCCL_CONFIG_UNDEF_INT, /* nvlsCTAs */ \
    NCCL_CONFIG_UNDEF_INT, /* cgaClusterSize */ \
    NCCL_CONFIG_UNDEF_PTR, /* algSelection */ \
    1, /* forceAlgSelection */ \
    NCCL_CONFIG_UNDEF_INT, /* CTAPolicy */ \
    0, /* userProfilerTag */ \
    NCCL_CONFIG_UNDEF_PTR, /* launchCompletionEvent */ \
}

#define NCCL_ENCRYPTION_CONFIG_INITIALIZER { \
    sizeof(ncclEncryptionConfig_t), DIME_NCCL_MAGIC, NCCL_VERSION_CODE, \
    NCCL_ENCRYPTION_MODE_NONE, /* mode */ \
    NCCL_CONFIG_UNDEF_PTR, /* psk */ \
}
#endif
