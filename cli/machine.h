/* A few words on the machine and the build, for the head of reports and for `parmap info`. */
#ifndef CLI_MACHINE_H
#define CLI_MACHINE_H

struct machine {
    unsigned cpus;      /* that this process may use */
    char cpu[128];      /* such as "AMD EPYC 7B13" */
    char kernel[128];   /* such as "Linux 6.1.0" */
    char compiler[128]; /* such as "gcc 12.2.0" */
};

void machine_look(struct machine *machine);

#endif
